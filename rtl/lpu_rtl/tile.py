"""The tile: units and memories, wired together."""

from functools import reduce
from operator import or_

from amaranth import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from lpu_isa.config import TileConfig
from lpu_isa.faults import Fault

from .host import AxiLite, Host
from .icu import Icu
from .interfaces import LATE_SCALARS
from .mxm import SIDES, Mxm
from .primitives import Technology
from .share import share
from .vmem import VectorMemory
from .vxm import N_FAULTS, Vxm
from .weight_rows import WeightRows
from .windows import Windows
from .wmem import WeightMemory

__all__ = ["Tile"]


class Tile(wiring.Component):
    """One tile behind its host port.

    Golden model: ``lpu_sw.sim.tile``. Register map: ``lpu_isa.host``.

    Parameters
    ----------
    config : TileConfig
    technology : Technology
        ``GENERIC`` for simulation and any other chip, ``ECP5`` for the board.

    Ports
    -----
    host : In(AxiLite)      Loads, starts and watches the tile.
    irq : Out(1)            The tile has halted or faulted, or has a word for the host.
    running : Out(1)        Started, and not yet stopped.
    faulted : Out(1)        Stopped by a fault, until it is started or reset.
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.GENERIC) -> None:
        self.config = config
        self.technology = technology
        super().__init__({"host": In(AxiLite), "irq": Out(1), "running": Out(1), "faulted": Out(1)})

    def elaborate(self, platform) -> Module:
        m = Module()
        config, technology = self.config, self.technology
        m.submodules.host = host = Host(config)
        m.submodules.windows = windows = Windows(config, technology)
        m.submodules.icu = icu = Icu(config, technology, n_faults=1 + SIDES + N_FAULTS)
        m.submodules.mxm = mxm = Mxm(config, technology)
        # The vector unit is reset by one register: a reset of all comes to it as that which cancels what it does.
        restarts = Signal(init=1)
        m.d.sync += restarts.eq(icu.cancels)
        m.domains.vector = ClockDomain(local=True)
        m.d.comb += [ClockSignal("vector").eq(ClockSignal()), ResetSignal("vector").eq(restarts)]
        vxm = Vxm(config, technology)
        m.submodules.vxm = DomainRenamer("vector")(vxm)
        m.submodules.wmem = wmem = WeightMemory(config, technology)
        m.submodules.weight_rows = weight_rows = WeightRows(config, technology)
        m.submodules.vmem = vmem = VectorMemory(config, config.vmem_words, 2, technology)
        m.submodules.smem = smem = VectorMemory(config, config.smem_words, 1, technology)

        # Host port, registers and mailboxes.
        connect(m, flipped(self.host), host.axi)
        connect(m, host.read, windows.read)
        connect(m, host.write, windows.write)
        connect(m, host.inbox, icu.inbox)
        connect(m, icu.outbox, host.outbox)
        connect(m, host.register_read, icu.register_read)
        for name in ("start", "stop", "reset"):
            m.d.comb += getattr(icu, name).eq(getattr(host, name))
        for name in ("running", "waiting", "halted", "clearing", "fault", "fault_pc", "cycles"):
            m.d.comb += getattr(host, name).eq(getattr(icu, name))
        m.d.comb += [
            self.irq.eq(host.irq),
            self.running.eq(icu.running),
            self.faulted.eq(icu.fault != 0),
            host.clamped.eq(vxm.clamped),
        ]
        for name in ("program_read", "program_write", "timing_read", "timing_write"):
            connect(m, getattr(windows, name), getattr(icu, name))

        # Operations and what they bring about.
        connect(m, icu.mxm, mxm.issue)
        connect(m, icu.vxm, vxm.issue)
        connect(m, icu.sxm, vxm.switch)
        for name, read in zip(LATE_SCALARS, icu.scalars, strict=True):
            connect(m, getattr(vxm.scalars, name.removesuffix("_reg")), read)
        connect(m, vxm.register_write, icu.reduction)
        connect(m, vxm.block_write, mxm.block_write)
        connect(m, windows.act_read, mxm.act)
        connect(m, vxm.acc, mxm.acc)
        connect(m, windows.acc_read, mxm.acc_host)
        m.d.comb += mxm.stop.eq(icu.cancel)
        m.d.sync += icu.was_busy.eq(mxm.busy | vxm.busy)

        # Memories. The host uses the ports of units that are idle.
        conflicts = [
            share(m, wmem.read, [weight_rows.weights, mxm.weights]),
            share(m, weight_rows.read, [vxm.weights, windows.wmem_read]),
            share(m, wmem.write, [vxm.weight_write, windows.wmem_write]),
            share(m, vmem.read[0], [vxm.vmem_a, icu.vlane, windows.vmem_read]),
            share(m, vmem.write, [vxm.vmem_write, windows.vmem_write]),
            share(m, smem.read[0], [vxm.smem_c, icu.slane, windows.smem_read]),
            share(m, smem.write, [vxm.smem_write, windows.smem_write]),
            vxm.acc.enable & windows.acc_read.enable,
        ]
        connect(m, vxm.vmem_b, vmem.read[1])
        m.d.sync += [
            icu.faults[0][Fault.CONFLICT].eq(reduce(or_, conflicts)),
            *(icu.faults[1 + i].eq(faults) for i, faults in enumerate([*mxm.faults, *vxm.faults])),
        ]
        return m
