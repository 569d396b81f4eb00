"""The host port of the tile: one test a claim of `lpu_tb.benches.host`."""

import pytest

CLAIMS = [
    "address_and_data_come_in_any_order",
    "answers_stay_until_they_are_taken",
    "many_writes_and_reads_at_once",
    "strobes_are_whole_words_outside_the_weights",
    "addresses_that_do_not_exist_are_refused",
    "inbox_takes_its_depth_and_refuses_more",
    "reset_in_the_middle_is_survived",
    "memories_are_refused_while_a_program_runs",
    "another_tile_is_noticed_before_anything_is_loaded",
    "first_access_waits_for_the_reset",
]


@pytest.mark.parametrize("claim", CLAIMS)
def test_claim(small, run_tile, claim):
    run_tile(small, "host", claim, tile=small.name)
