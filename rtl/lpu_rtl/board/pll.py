"""The ECP5's clock generator, set up for a wanted clock."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import product
from typing import NamedTuple

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from lpu_rtl.primitives import Technology

__all__ = ["Pll", "PllSettings", "pll_settings"]

# Limits of the chip: Lattice FPGA-DS-02012, sysCLOCK PLL timing.
_INPUT_HZ = (8_000_000, 400_000_000)
_COMPARED_HZ = (10_000_000, 400_000_000)
_OSCILLATOR_HZ = (400_000_000, 800_000_000)
_OUTPUT_HZ = (10_000_000, 400_000_000)
_DIVIDERS = range(1, 129)

_TWIN_LOCK_CYCLES = 64


class PllSettings(NamedTuple):
    """Oscillator = input / ``input_divider`` x ``feedback_divider``; output = oscillator / ``output_divider``."""

    input_divider: int
    feedback_divider: int
    output_divider: int


def _possible(input_hz: int) -> Iterator[tuple[Fraction, PllSettings]]:
    """Every output that the limits allow, with its settings; small input dividers first, which jitter least."""
    for settings in map(PllSettings._make, product(_DIVIDERS, repeat=3)):
        compared = Fraction(input_hz, settings.input_divider)
        if compared < _COMPARED_HZ[0]:
            return
        oscillator = compared * settings.feedback_divider
        output = oscillator / settings.output_divider
        ranges = ((compared, _COMPARED_HZ), (oscillator, _OSCILLATOR_HZ), (output, _OUTPUT_HZ))
        if all(low <= frequency <= high for frequency, (low, high) in ranges):
            yield output, settings


def pll_settings(input_hz: int, output_hz: int) -> PllSettings:
    """Settings that make exactly ``output_hz``.

    Raises ValueError for an input out of range, and for an output that cannot be made, naming its neighbours that can.

    >>> pll_settings(25_000_000, 110_000_000)
    PllSettings(input_divider=1, feedback_divider=22, output_divider=5)
    """
    if not _INPUT_HZ[0] <= input_hz <= _INPUT_HZ[1]:
        raise ValueError(f"the PLL's input must be 8 to 400 MHz, not {input_hz / 1e6:g} MHz")
    possible = list(_possible(input_hz))
    for output, settings in possible:
        if output == output_hz:
            return settings
    below = max((output for output, _ in possible if output < output_hz), default=None)
    above = min((output for output, _ in possible if output > output_hz), default=None)
    nearest = " and ".join(f"{float(output) / 1e6:g}" for output in (below, above) if output is not None)
    raise ValueError(f"a clock of {output_hz / 1e6:g} MHz cannot be made of {input_hz / 1e6:g} MHz; "
                     f"the nearest that can: {nearest} MHz")  # fmt: skip


class Pll(wiring.Component):
    """One clock from another, exactly.

    settings : of `pll_settings`.
    technology : `ECP5`: an EHXPLLL and a DCCA. `GENERIC`, their twin for simulation: the output is the input, whatever
        the two frequencies, and is called stable after 64 cycles.

    clk : In(1)      The board's clock.
    enable : In(1)   The output stands still while this is low; it stops and starts between two pulses.
    output : Out(1)  The clock that was made.
    locked : Out(1)  It is stable. Asynchronous to all clocks.
    """

    def __init__(self, settings: PllSettings, technology: Technology = Technology.GENERIC) -> None:
        self._settings, self._technology = settings, technology
        super().__init__({"clk": In(1), "enable": In(1), "output": Out(1), "locked": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        if self._technology is Technology.ECP5:
            self._instantiate(m)
        else:
            m.domains.twin = ClockDomain(reset_less=True, local=True, clk_edge="neg")
            cycles, enabled = Signal(range(_TWIN_LOCK_CYCLES)), Signal()
            m.d.comb += [
                ClockSignal("twin").eq(self.clk),
                self.output.eq(self.clk & enabled),
                self.locked.eq(cycles == _TWIN_LOCK_CYCLES - 1),
            ]
            m.d.twin += enabled.eq(self.enable)
            with m.If(~self.locked):
                m.d.twin += cycles.eq(cycles + 1)
        return m

    def _instantiate(self, m: Module) -> None:
        """The primary output does nothing but repeat the input, for comparison; the secondary one is the output."""
        input_divider, feedback_divider, output_divider = self._settings
        repeated, made = Signal(), Signal()
        m.submodules.gate = Instance("DCCA", i_CLKI=made, i_CE=self.enable, o_CLKO=self.output)
        m.submodules.primitive = Instance(
            "EHXPLLL",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB", p_OUTDIVIDER_MUXC="DIVC", p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=input_divider, p_CLKFB_DIV=1, p_FEEDBK_PATH="CLKOP",
            p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=feedback_divider,
            p_CLKOP_CPHASE=feedback_divider - 1, p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED", p_CLKOS_DIV=output_divider,
            p_CLKOS_CPHASE=output_divider - 1, p_CLKOS_FPHASE=0,
            i_CLKI=self.clk, i_CLKFB=repeated, o_CLKOP=repeated, o_CLKOS=made, o_LOCK=self.locked,
            i_RST=Const(0, 1), i_STDBY=Const(0, 1), i_PLLWAKESYNC=Const(0, 1),
            i_PHASESEL0=Const(0, 1), i_PHASESEL1=Const(0, 1), i_PHASEDIR=Const(0, 1), i_PHASESTEP=Const(0, 1),
            i_PHASELOADREG=Const(0, 1), i_ENCLKOP=Const(0, 1), i_ENCLKOS=Const(0, 1),
        )  # fmt: skip
