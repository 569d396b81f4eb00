"""Slow paths out of an SDF."""

from lpu_tb.paths import SlowPath, slow_paths

_SDF = r"""
(DELAYFILE
  (CELL (CELLTYPE "top")
    (INSTANCE )
    (DELAY
      (ABSOLUTE
        (INTERCONNECT pll/CLKOS top.a.q_TRELLIS_FF_Q_1/CLK (0:0:0) (0:0:0))
        (INTERCONNECT pll/CLKOS top.a.q_TRELLIS_FF_Q_2/CLK (0:0:0) (0:0:0))
        (INTERCONNECT pll/CLKOS top.b.ebr3/CLKB (0:0:0) (0:0:0))
        (INTERCONNECT pin/O top.slow_TRELLIS_FF_Q/CLK (0:0:0) (0:0:0))
        (INTERCONNECT top.a.q_TRELLIS_FF_Q_1/Q top.sum\$7_LUT4_Z/A (900:1000:1100) (900:1000:1100))
        (INTERCONNECT top.a.q_TRELLIS_FF_Q_2/Q top.sum\$7_LUT4_Z/B (100:100:100) (100:100:120))
        (INTERCONNECT top.slow_TRELLIS_FF_Q/Q top.sum\$7_LUT4_Z/C (9000:9000:9000) (9000:9000:9000))
        (INTERCONNECT top.sum\$7_LUT4_Z/F top.b.ebr3/ADB4 (2000:2000:2000) (2000:2000:2000))
        (INTERCONNECT top.b.ebr3/DOB0 top.a.q_TRELLIS_FF_Q_1/DI (10:20:30) (10:20:30))
        (INTERCONNECT top.b.ebr3/DOB0 top.a.q_TRELLIS_FF_Q_2/DI (10:20:30) (10:20:30))
      )
    )
  )
  (CELL
    (CELLTYPE "TRELLIS_COMB")
    (INSTANCE top.sum\$7_LUT4_Z)
    (DELAY
      (ABSOLUTE
        (IOPATH A F (200:218:236) (200:218:236))
        (IOPATH B F (200:218:236) (200:218:236))
      )
    )
  )
  (CELL
    (CELLTYPE "TRELLIS_FF")
    (INSTANCE top.a.q_TRELLIS_FF_Q_1)
    (DELAY
      (ABSOLUTE
        (IOPATH CLK Q (430:477:525) (430:477:525))
      )
    )
    (TIMINGCHECK
      (SETUPHOLD (posedge DI) (posedge CLK) (5:6:7) (233:268:303))
      (SETUPHOLD (negedge DI) (posedge CLK) (1:1:1) (233:268:303))
    )
  )
  (CELL
    (CELLTYPE "TRELLIS_FF")
    (INSTANCE top.a.q_TRELLIS_FF_Q_2)
    (DELAY
      (ABSOLUTE
        (IOPATH CLK Q (430:477:525) (430:477:525))
      )
    )
    (TIMINGCHECK
      (SETUPHOLD (posedge DI) (posedge CLK) (0:0:0) (233:268:303))
    )
  )
  (CELL
    (CELLTYPE "TRELLIS_FF")
    (INSTANCE top.slow_TRELLIS_FF_Q)
    (DELAY
      (ABSOLUTE
        (IOPATH CLK Q (430:477:525) (430:477:525))
      )
    )
  )
  (CELL
    (CELLTYPE "DP16KD")
    (INSTANCE top.b.ebr3)
    (DELAY
      (ABSOLUTE
        (IOPATH CLKB DOB0 (882:919:956) (882:919:956))
      )
    )
    (TIMINGCHECK
      (SETUPHOLD (posedge ADB4) (posedge CLKB) (39:39:39) (0:0:0))
    )
  )
)
"""


def test_paths_are_the_longest_between_groups_of_one_clock(tmp_path):
    sdf = tmp_path / "board.sdf"
    sdf.write_text(_SDF)
    into_memory = SlowPath(ns=3.9, logic_ns=0.8, start="top.a.q", end="top.b.ebr#", endpoints=1)
    out_of_memory = SlowPath(ns=0.993, logic_ns=0.963, start="top.b.ebr#", end="top.a.q", endpoints=2)
    assert slow_paths(sdf, 0) == [into_memory, out_of_memory]
    assert slow_paths(sdf, 1) == [into_memory]
