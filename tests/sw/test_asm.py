"""The assembler's text form: what it accepts, and the error for everything else."""

from pathlib import Path

import numpy as np
import pytest

from lpu_isa.bundle import BundleFormat
from lpu_isa.config import SHAPES
from lpu_isa.fields import Field
from lpu_isa.formats import FloatFormat
from lpu_isa.icu import IcuOp
from lpu_sw.asm import AssemblyError, assemble, assemble_file
from lpu_sw.asm.syntax import FORMS, mnemonics

SMALL = SHAPES["4x4"]
LAYOUT = BundleFormat(SMALL)


def fields() -> list[tuple[str, Field]]:
    """Every field that the text form can give, with an operation of its slot."""
    first = {slot: name for name, (slot, _) in reversed(mnemonics(LAYOUT).items())}
    first["icu"] = "halt"  # takes no operands, so that each field can be named
    return [(first[name], f) for name, slot in LAYOUT.slots.items() if name in first for f in slot.fields[1:]]


FIELDS = fields()
NUMERIC = [(name, f) for name, f in FIELDS if f.enum is None and not f.register]


def by_field(pairs):
    return pytest.mark.parametrize(("mnemonic", "f"), pairs, ids=[f"{m}-{f.name}" for m, f in pairs])


def one(text: str, slot: str) -> dict[str, int]:
    """All field values of the single operation in ``text``."""
    bundle = assemble(text, SMALL, prove=False).bundles[0]
    return LAYOUT.complete(bundle.operations[slot])


def error(text: str, **options) -> str:
    with pytest.raises(AssemblyError) as caught:
        assemble(text, SMALL, name="kernel.lpu", **options)
    return str(caught.value)


@by_field(NUMERIC)
def test_the_ends_of_a_range_are_accepted(mnemonic, f):
    slot = mnemonics(LAYOUT)[mnemonic][0]
    for value in (f.low, f.high):
        assert one(f"{mnemonic} {f.name}={value}", slot)[f.name] == value


@by_field(NUMERIC)
@pytest.mark.parametrize("beyond", ["max+1", "min-1", "2**40", "-(2**40)"])
def test_a_value_past_a_range_is_refused_with_its_place(mnemonic, f, beyond):
    value = {"max+1": f.high + 1, "min-1": f.low - 1, "2**40": 1 << 40, "-(2**40)": -(1 << 40)}[beyond]
    column = len(mnemonic) + len(f.name) + 5
    expected = f"kernel.lpu:2:{column}: found '{value}', expected {f.name} from {f.low} to {f.high}\n"
    assert error(f"\n  {mnemonic} {f.name}={value}").startswith(expected)


@by_field(FIELDS)
@pytest.mark.parametrize(("text", "wanted"), [("1e3", "an integer"), ("0x", "hexadecimal digits"), ("4z", "a number")])
def test_a_malformed_number_is_refused_in_every_field(mnemonic, f, text, wanted):
    message = error(f"{mnemonic} {f.name}={text}")
    assert message.startswith(f"kernel.lpu:1:{len(mnemonic) + len(f.name) + 3}: found '{text}', expected ")
    if f.enum is None:
        assert f"expected {wanted}" in message


@by_field([(m, f) for m, f in FIELDS if f.register])
def test_registers_run_from_0_to_31(mnemonic, f):
    slot = mnemonics(LAYOUT)[mnemonic][0]
    assert one(f"{mnemonic} {f.name}=r31", slot)[f.name] == 31
    for text in ("32", "-1", "1 << 40"):
        assert "expected a register, r0 to r31" in error(f"{mnemonic} {f.name}={text}")
    assert "found 'r32', expected a known name (did you mean 'r3'?)" in error(f"{mnemonic} {f.name}=r32")


@by_field([(m, f) for m, f in FIELDS if f.enum])
def test_members_are_lower_case_names(mnemonic, f):
    slot = mnemonics(LAYOUT)[mnemonic][0]
    for member in f.enum:
        assert one(f"{mnemonic} {f.name}={member.name.lower()}", slot)[f.name] == member
    for text in ("0", "rsqr", "NONE"):
        assert f"found '{text}', expected {f.name} to be one of " in error(f"{mnemonic} {f.name}={text}")


def test_every_sequencer_operation_has_an_order_of_operands():
    assert set(FORMS) == set(IcuOp) - {IcuOp.NOP}


def test_names_of_operations_differ():
    operations = sum(len(slot.by_name["op"].enum) - 1 for slot in LAYOUT.slots.values())
    assert len(mnemonics(LAYOUT)) == operations


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2 + 3 * 4", 14),
        ("(2 + 3) * 4", 20),
        ("-3 + 1", -2),
        ("-(3 - 5)", 2),
        ("1 << 4 + 1", 32),
        ("100 >> 2", 25),
        ("7 / 2", 3),
        ("-7 / 2", -4),
        ("7 % 4", 3),
        ("0x1F + 0b101", 36),
        ("1_000", 1000),
        ("10 - 4 - 3", 3),
        ("N * ROWS + COLS", 24),
        ("(1 << LOG2_ROWS) - ROWS + (1 << LOG2_COLS) - COLS", 0),
    ],
)
def test_expressions(text, value):
    assert one(f".const N = 5\n li r1, {text}", "icu")["imm"] == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "found '0', expected a divisor other than 0"),
        ("1 << -1", "found '-1', expected a shift of 0 or more"),
        ("r2 * 2", "found 'r2 * 2', expected a number (a register can only be added)"),
        ("-r2", "expected a number (a register can only be added)"),
        ("r2 + r3", "expected one register at most"),
        ("1.5f % 2", "expected integers on both sides of %"),
        ("(1", "found the end of the line, expected ')'"),
        ("1 +", "found the end of the line, expected a number, a name or '('"),
        ("(" * 5000, "expected an expression of at most 100 terms"),
        ("1" + " + 1" * 5000, "expected an expression of at most 100 terms"),
        ("1 << (1 << 40)", "expected an integer of at most 128 bits"),
        ("9" * 6000, "expected an integer of at most 128 bits"),
        ("0x" + "f" * 5000, "expected an integer of at most 128 bits"),
        ("1e999f - 1e999f", "expected a float of magnitude below 2**128"),
        ("nothing", "found 'nothing', expected a known name"),
    ],
)
def test_bad_expressions(text, message):
    assert message in error(f"li r1, {text}")


def test_a_sum_fills_a_field_and_its_register():
    values = one(".register pos = r7\n vxm.pass x=10+pos count=pos d=pos+2 q=4 b=pos-1+3", "vxm")
    chosen = ("x", "x_reg", "count", "count_reg", "d", "d_reg", "q", "q_reg", "b", "b_reg")
    assert [values[name] for name in chosen] == [10, 7, 0, 7, 2, 7, 4, 0, 2, 7]
    values = one("vlane r1, 5+r2, r3", "icu")
    assert [values[name] for name in ("rd", "imm", "rs", "rt")] == [1, 5, 2, 3]
    assert "expected act without a register" in error("mxm.matmul act=r1")
    assert "expected x_reg once" in error("vxm.pass x=1+r2 x_reg=r3")


@pytest.mark.parametrize(
    ("operation", "space"),
    [
        ("mxm.matmul weights={}", "wmem"),
        ("mxm.matmul act={}", "act"),
        ("mxm.matmul acc=1+{}", "acc"),
        ("vxm.pass x={}", "vmem"),
        ("sxm.rotate | vxm.pass x={} source=sxm", "vmem"),
        ("vxm.pass x={} source=acc", "acc"),
        ("vxm.pass source=wmem x={}+r3", "wmem"),
        ("vxm.pass b={}", "vmem"),
        ("vxm.pass c={}", "smem"),
        ("vxm.pass d=-(-{}) write=vmem", "vmem"),
        ("vxm.pass d={} write=smem", "smem"),
        ("vxm.pass q={} quantise=act", "act"),
        ("vxm.pass q={} quantise=row", "wmem"),
        ("vxm.pass q={} quantise=column", "wmem"),
        ("vlane r1, {}+r2, r3", "vmem"),
        ("slane r1, {}, r3", "smem"),
    ],
)
def test_a_region_is_an_address_of_its_own_memory_alone(operation, space):
    for other in ("wmem", "vmem", "smem", "act", "acc"):
        text = f".{other} here = 3, 1\n " + operation.format("here")
        if other == space:
            assemble(text, SMALL, prove=False)
        else:
            message = f"found 'here', a region of {other}, expected "
            assert message in error(text, prove=False)
            assert error(text, prove=False).splitlines()[0].endswith(f"to be in {space}")


def test_floats_take_the_format_of_the_tile():
    for bits in (18, 24):
        config = SMALL.replace(significand_bits=bits)
        program = assemble("li r1, -1.5f\n li r2, 0.1f", config, prove=False)
        words = [b.operations["icu"]["imm"] & 0xFFFFFFFF for b in program.bundles]
        floats = FloatFormat(bits)
        assert words == floats.encode(floats.round(np.array([-1.5, 0.1]))).tolist()
    assert "expected a float of magnitude below 2**128" in error("li r1, 1e39f")
    assert "expected exponent from 0 to 255, an integer" in error("mxm.matmul exponent=1.5f")


def test_operations_join_to_bundles_and_lines_go_on():
    program = assemble(
        """
        .const LEFT = 3
        begin: mxm.matmul weights=4 inner=LEFT   ; a comment
                 weights_inner=1
          | vxm.pass source=acc | li r1, 2
          @ 20 @timed
        nop @done
        jump begin @done
        """,
        SMALL,
        prove=False,
    )
    assert [sorted(b.operations) for b in program.bundles] == [["icu", "mxm", "vxm"], [], ["icu"]]
    assert [(b.wait, b.timed) for b in program.bundles] == [(20, True), (1, False), (4, False)]
    assert program.bundles[0].operations["mxm"]["weights_inner"] == 1
    assert program.labels == {"begin": 0}
    assert [(s.line, s.column) for s in program.sources if s] == [(3, 16), (7, 9), (8, 9)]


def test_done_waits_for_the_last_write_of_the_bundle():
    program = assemble("vxm.pass count=5 write=vmem d=9 @done\n vxm.pass count=3 reduce=sum reduce_reg=r1 @done", SMALL,
                       prove=False)  # fmt: skip
    for bundle in program.bundles:
        use = LAYOUT.use(bundle.operations["vxm"], [0] * 32)
        assert bundle.wait == 1 + max(int(a.cycle.max()) for a in use.accesses if a.write)


def test_done_needs_to_know_how_large_a_count_can_be():
    text = ".register n = r3, 4\n vxm.pass count=1+n write=vmem @done\n vxm.pass count=5 write=vmem @done"
    first, second = assemble(text, SMALL, prove=False).bundles
    assert first.wait == second.wait
    unknown = "expected a number of cycles (count depends on r3, whose largest value is not given)"
    assert unknown in error("vxm.pass count=r3 @done")
    assert "(inner is 0, not from 1 to 1023)" in error("mxm.matmul inner=0 @done")
    assert "(outer is 1024, not from 1 to 1023)" in error(".register n = r3, 1000\n mxm.matmul outer=24+n @done")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lj r1, 2", "kernel.lpu:1:1: found 'lj', expected an operation, such as li, mxm.matmul or vxm.pass"),
        ("mxm.matmull", "(did you mean 'mxm.matmul'?)"),
        ("vxm.pass sorce=acc", "found 'sorce', expected a field of vxm.pass (did you mean 'source'?)"),
        ("vxm.pass count=1 count=2", "kernel.lpu:1:24: found '2', expected count once"),
        ("vxm.pass 3", "found '3', expected fields of vxm.pass as name=value"),
        ("li r1", "kernel.lpu:1:1: found 1 operand, expected 'li rd, imm'"),
        ("addi r1 r2, 3", "kernel.lpu:1:9: found 'r2', expected ',', 'field=value', '|' and another operation, or '@'"),
        ("halt 3", "kernel.lpu:1:6: found 1 operand, expected 'halt'"),
        ("li r1, 2 | li r2, 3", "found 'li', expected one operation of icu a bundle"),
        ("nop @0", "found '0', expected cycles from 1 to 4095"),
        ("nop @4096", "found '4096', expected cycles from 1 to 4095"),
        ("nop @2 @3", "found '3', expected one distance a bundle"),
        ("x=3", "kernel.lpu:1:1: found 'x', expected an operation before its fields"),
        ("nop $", "kernel.lpu:1:5: found '$', expected a name, number, directive or operator"),
        ("nop é", "found 'é', expected a name"),
        (".cnst N = 3", "found '.cnst', expected one of .tile, .include, .const"),
        (".const N", "found the end of the line, expected '='"),
        (".const N = 1, 2", "found 2 values, expected one value"),
        (".const N = 1\n.const N = 2", "kernel.lpu:2:8: found 'N', expected a new name ('N' is a constant defined at "
                                       "kernel.lpu:1:8)"),
        ("a: nop\na: nop", "kernel.lpu:2:1: found 'a', expected a new name ('a' is a label defined at kernel.lpu:1:1)"),
        (".register r3 = r4", "expected a new name ('r3' is a register built in)"),
        (".register n = 32", "expected a register, r0 to r31"),
        (".const n = r3", "expected a number (use .register to name a register)"),
        (".vmem x = 256, 1", "found '256', expected an address of vmem from 0 to 255"),
        (".vmem x = 250, 7", "found '7', expected words up to the end of vmem from 0 to 6"),
        (".vmem x = 250", "found 1 value, expected an address and a number of words"),
        (".data vmm 0: 1", "found 'vmm', expected one of wmem, vmem, smem"),
        (".data vmem 255: 1, 2, 3, 4, 5", "found 2 words from 255, expected at most 1 (vmem has 256)"),
        (".data wmem 0: 128", "found '128', expected an int8 value from -128 to 127"),
        (".words vmem 0: 1 << 26", "found '1 << 26' = 67108864, expected an encoded float from 0 to 67108863"),
        (".matrix 0, 2, 2: 1, 2, 3", "found 3 values, expected 2 x 2 of them"),
        (".matrix 0, 2: 1, 2", "found 2 values, expected an address, outputs and inputs before ':'"),
        (".matrix 511, 5, 1: 1, 2, 3, 4, 5", "found 2 words from 511, expected at most 1 (wmem has 512)"),
        (".matrix 0, 0, 2: 1", "found '0', expected outputs or inputs from 1 to"),
        (".timing 0: 4096", "found '4096', expected cycles from 0 to 4095"),
        (".timing 511: 1, 2", "found 2 words from 511, expected at most 1 (timing memory has 512)"),
        (".inbox 1 << 32", "expected a 32-bit word from -2147483648 to 4294967295"),
        (".tile 5x4", "found a tile that cannot be: rows must be a power of two, at least 4, not 5"),
        (".tile 8x16", "found '8x16', expected the tile of this run, 4x4"),
        (".tile 4x4 row=3", "kernel.lpu:1:11: found 'row', expected one of wmem_words, vmem_words, smem_words, "),
        (".tile 4x4 bundle=3", "(did you mean 'bundles'?)"),
        (".tile four", "found 'four', expected a shape such as 8x16"),
        ('.include "missing.lpu"', "found \"missing.lpu\", expected a readable file (No such file or directory)"),
        ("nop\n" * 513, "found 513 bundles, expected at most 512 bundles (tile 4x4)"),
    ],
)  # fmt: skip
def test_mistakes_say_where_what_and_what_was_expected(text, message):
    assert message in error(text)


def test_an_error_shows_its_line_with_a_caret():
    assert error("\tli r1, 0x  ; one") == (
        "kernel.lpu:1:9: found '0x', expected hexadecimal digits after 0x\n"
        "  \tli r1, 0x  ; one\n"
        "  \t       ^^"
    )  # fmt: skip


def test_several_mistakes_are_told_at_once_up_to_twenty():
    text = "lj r1\n vxm.pass count=1024 sorce=acc\n li r2, $\n"
    with pytest.raises(AssemblyError) as caught:
        assemble(text, SMALL)
    assert [d.span.line for d in caught.value.diagnostics] == [1, 2, 2, 3]
    with pytest.raises(AssemblyError) as caught:
        assemble("lj\n" * 50, SMALL)
    assert len(caught.value.diagnostics) == 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nop\n end @4\n halt", "kernel.lpu:2:2: unbalanced loop: bundle 1 (kernel.lpu:2:2) ends a loop, none is open"),
        ("loop 2\n loop 3\n end @4\n halt", "kernel.lpu:1:1: unbalanced loop: bundle 0 (kernel.lpu:1:1) begins a loop "
                                           "that has no end"),
        ("loop 2\n" * 5 + "end @4\n" * 5 + "halt", "kernel.lpu:5:1: unbalanced loop: bundle 4 (kernel.lpu:5:1) opens "
                                                  "loop 5, at most 4 can nest"),
        ("jump 1 @4", "kernel.lpu:1:1: branch target: bundle 0 (kernel.lpu:1:1) branches to 1, the "
                      "program has 1 bundles"),
        ("beq r1, r2, over @4\nhalt\nover:", "branches to 2, the program has 2 bundles"),
        ("jump -1 @4", "branches to -1, the program has 1 bundles"),
        ("li r1, 2", "kernel.lpu:1:1: fault: bundle 0 (kernel.lpu:1:1) is the last to issue before fault program"),
        ("jump 0", "kernel.lpu:1:1: distance too short: bundle 0"),
    ],
)  # fmt: skip
def test_loops_balance_and_branches_stay_inside(text, message):
    assert message in error(text)


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "vxm.pass x=3 write=vmem d=7 @3\n vxm.pass x=7 write=vmem d=8 @done\n halt",
            ["kernel.lpu:2:2: read before write: bundle 1 (kernel.lpu:2:2) reads vmem 7 in cycle 4 (vxm), "
             "bundle 0 (kernel.lpu:1:1) writes it in cycle 5: 2 cycles too early"],
        ),
        (
            "vxm.pass add=b write=vmem @6\n vxm.pass write=vmem d=9 @done\n halt",
            ["kernel.lpu:2:2: claimed twice: bundle 1 (kernel.lpu:2:2) and bundle 0 (kernel.lpu:1:1) both use "],
        ),
        (
            "vxm.pass count=9 write=vmem @5\n vxm.pass write=smem @done\n halt",
            ["kernel.lpu:2:2: slot busy: bundle 1 (kernel.lpu:2:2) issues to vxm in cycle 5, "
             "bundle 0 (kernel.lpu:1:1) still runs in it"],
        ),
        ("vxm.pass x=250 count=9 write=vmem @done\n halt", ["kernel.lpu:1:1: fault: ", "address past the end"]),
        (
            "vxm.pass write=vmem\n halt",
            ["kernel.lpu:2:2: operation still running: bundle 1 (kernel.lpu:2:2) issues halt in cycle 1, "
             "bundle 0 (kernel.lpu:1:1) runs until cycle 5"],
        ),
        ("li r1, 3\n addi r2, r1, 4 @done\n halt", ["kernel.lpu:2:2: read before write: ", "reads register 1 "]),
    ],
)  # fmt: skip
def test_a_distance_that_is_too_short_names_both_sides(text, messages):
    for message in messages:
        assert message in error(text)


def test_operations_may_overlap_as_far_as_they_do_not_meet():
    text = (
        "vxm.pass add=b write=vmem d=5 @1\n vxm.pass write=vmem d=9 @{}\n send r0\n vxm.pass x=5 write=smem @9\n halt"
    )
    assert len(assemble(text.format(9), SMALL).bundles) == 5
    assert "reads vmem 5 in cycle 10 (vxm), bundle 0 (kernel.lpu:1:1) writes it in cycle 11" in error(text.format(7))


def test_includes_are_found_beside_their_file(tmp_path: Path):
    (tmp_path / "part").mkdir()
    (tmp_path / "main.lpu").write_text('.include "part/names.lpu"\n li r1, N\n')
    (tmp_path / "part" / "names.lpu").write_text('.include "more.lpu"\n.const N = M + 1\n')
    (tmp_path / "part" / "more.lpu").write_text(".const M = 4\n")
    program = assemble_file(tmp_path / "main.lpu", SMALL, prove=False)
    assert program.bundles[0].operations["icu"]["imm"] == 5


def test_a_mistake_in_an_include_names_its_file(tmp_path: Path):
    (tmp_path / "main.lpu").write_text('.include "names.lpu"\n')
    (tmp_path / "names.lpu").write_text("\n.const N = 0b2\n")
    with pytest.raises(AssemblyError, match=r"names\.lpu:2:12: found '0b2', expected binary digits after 0b"):
        assemble_file(tmp_path / "main.lpu", SMALL)


def test_an_include_cycle_names_the_files(tmp_path: Path):
    (tmp_path / "a.lpu").write_text('.include "b.lpu"\n')
    (tmp_path / "b.lpu").write_text('nop\n.include "a.lpu"\n')
    with pytest.raises(AssemblyError, match=r"b\.lpu:2:10: found an include of a file in itself \(a.lpu -> b.lpu -> a"):
        assemble_file(tmp_path / "a.lpu", SMALL)


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"nop\n halt ; gr\xfcn\n lj", r"main\.lpu:2:11: found the byte 0xfc, expected UTF-8 text"),
        ("halt\n".encode("utf-16"), r"main\.lpu:1:1: found the byte 0xff, expected UTF-8 text"),
        (b'.include "other.lpu"\n halt', r"other\.lpu:1:5: found the byte 0xe9, expected UTF-8 text"),
        (b"", r"main\.lpu: found no operation, expected a program"),
        (b"\n\t\n; halt\n", r"main\.lpu: found no operation, expected a program"),
        (b"\xef\xbb\xbfnop\r\n\tlj\r\n", r"main\.lpu:2:2: found 'lj', expected an operation"),
        ("nop ; one\u2028line\x85\n lj".encode(), r"main\.lpu:2:2: found 'lj', expected an operation"),
    ],
)
def test_files_of_other_kinds_are_told_by_line_and_column(tmp_path: Path, contents, message):
    (tmp_path / "main.lpu").write_bytes(contents)
    (tmp_path / "other.lpu").write_bytes(b"nop \xe9")
    with pytest.raises(ValueError, match=message):
        assemble_file(tmp_path / "main.lpu", SMALL)


def test_line_ends_tabs_and_the_mark_of_an_editor_do_not_matter(tmp_path: Path):
    plain, other = tmp_path / "plain.lpu", tmp_path / "other.lpu"
    plain.write_bytes(b"li r1, 2 @done\nhalt\n")
    other.write_bytes(b"\xef\xbb\xbf\tli\tr1,\t2 @done\r\n\r\n\thalt")
    assert assemble_file(other).bundles == assemble_file(plain).bundles


def test_data_fills_whole_words_with_zeros():
    program = assemble(
        """
        .tile 4x4
        .vmem x = 3, 2
        .data vmem x + 1: 1, -2.5,
                          3e-3
        .data wmem 7: 1, -2, 3, 4, 5
        .words smem 0: 0x12345
        .timing 2: 9, 8
        .timing 0: 7
        .inbox 1, -1, 1.5f
        """
    )
    floats = FloatFormat(18)
    vmem, wmem, smem = program.sections
    assert (vmem.space, vmem.address, vmem.data.shape, vmem.data.dtype) == ("vmem", 4, (1, 4), np.uint32)
    assert floats.decode(vmem.data).ravel().tolist() == [1, -2.5, floats.round(np.array(0.003)), 0]
    assert wmem.data.tolist() == [[[1, -2, 3, 4], [5, 0, 0, 0], [0] * 4, [0] * 4]]
    assert smem.data.tolist() == [[0x12345, 0, 0, 0]]
    assert program.timings.tolist() == [7, 0, 9, 8]
    assert program.inbox == [1, 0xFFFFFFFF, int(floats.encode(np.array(1.5)))]


def test_constants_can_be_replaced_by_the_caller():
    text = ".const N = 3\n.const M = N + 1\n li r1, M"
    program = assemble(text, SMALL, constants={"N": 7}, prove=False)
    assert program.bundles[0].operations["icu"]["imm"] == 8
    assert program.constants == {"N": 7, "M": 8}
    with pytest.raises(ValueError, match="found constant 'NN', expected one that <text> defines"):
        assemble(text, SMALL, constants={"NN": 7}, prove=False)


def test_a_matrix_lies_block_by_block_whatever_the_tile():
    text = ".matrix 3, 5, 6: " + ", ".join(str(n) for n in range(30))
    for config in SHAPES.values():
        (section,) = assemble(text, config).sections
        rows, cols = config.rows, config.cols
        groups, blocks = -(-5 // rows), -(-6 // cols)
        assert (section.space, section.address, section.data.shape) == ("wmem", 3, (groups * blocks, rows, cols))
        for out, column in np.ndindex(5, 6):
            word = section.data[column // cols * groups + out // rows]
            assert word[out % rows, column % cols] == 6 * out + column
        assert section.data.sum() == sum(range(30))


def test_random_text_never_breaks_the_assembler():
    rng = np.random.default_rng(1)
    words = ["li", "r1", ",", "vxm.pass", "count", "=", "3", "@", "|", ":", "(", ")", ".data", "vmem", "x", "\n", "-",
             "1.5f", "0x", '"', "mxm.matmul", ".const", "timed", "done", ".tile", "4x4", ".include", ";"]  # fmt: skip
    for _ in range(2000):
        text = " ".join(rng.choice(words, size=rng.integers(1, 30)))
        try:
            assemble(text)
        except AssemblyError as caught:
            assert caught.diagnostics
            assert all(str(d).startswith(f"<text>:{d.span.line}:{d.span.column}: ") for d in caught.diagnostics)
