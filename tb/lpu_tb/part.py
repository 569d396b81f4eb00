"""The chips that the ULX3S is sold with, and what they hold."""

from typing import NamedTuple

from .synth import Area

__all__ = ["PARTS", "Part"]


class Part(NamedTuple):
    """An ECP5. Cells after Lattice FPGA-DS-02012, table 1.1; nextpnr counts two LUT4 for a carry pair.

    option : how nextpnr calls it. platform : the board with it in ``amaranth_boards.ulx3s``.
    """

    option: str
    platform: str
    lut4: int
    dsp: int
    ebr: int

    def check(self, size: Area) -> None:
        """Raise ValueError naming each resource of which ``size`` needs more than there is."""
        resources = {"lut4": "LUT4", "dsp": "multipliers", "ebr": "block RAMs"}
        short = [
            f"{getattr(size, field)} {title}, found {getattr(self, field)}"
            for field, title in resources.items()
            if getattr(size, field) > getattr(self, field)
        ]
        if short:
            raise ValueError(f"the part is too small: the design needs {'; '.join(short)}")


PARTS = {
    "12F": Part("--12k", "ULX3S_12F_Platform", 12_144, 28, 32),
    "25F": Part("--25k", "ULX3S_25F_Platform", 24_288, 28, 56),
    "45F": Part("--45k", "ULX3S_45F_Platform", 43_848, 72, 108),
    "85F": Part("--85k", "ULX3S_85F_Platform", 83_640, 156, 208),
}
"""By the ending of the part's name, as in LFE5U-85F."""
