"""The commands that write the tile's Verilog and a waveform."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lpu_isa.config import SHAPES
from lpu_sw.cli import application
from lpu_tb.public import ports

REPOSITORY = Path(__file__).resolve().parents[2]


def lpu(*arguments: str) -> str:
    """What the command prints."""
    result = CliRunner().invoke(application(), arguments)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize("tile", SHAPES)
def test_rtl_writes_one_file_that_every_tool_can_read(tile, tmp_path):
    path = tmp_path / "tile.v"
    assert str(path) in lpu("rtl", "--tile", tile, "--output", str(path)).replace("\n", "")
    text = path.read_text()
    assert {"clk", "rst", "irq", "host__awvalid"} <= {port.signal for port in ports(text, "tile")}
    assert len(text) < 20_000_000
    assert str(REPOSITORY) not in text, "no path of this machine"


def test_wave_records_a_kernel_under_the_tiles_own_names(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    path = re.search(r"written\s+(\S+\.vcd)", lpu("wave", str(REPOSITORY / "examples" / "kernels" / "matvec.lpu")))
    assert path is not None
    dump = Path(path[1])
    assert dump.stat().st_size < 20_000_000
    scopes = re.findall(r"\$scope module (\S+) \$end", dump.read_text())
    assert {"tile", "icu", "fetch", "mxm", "vxm", "wmem", "vmem", "host"} <= set(scopes)
