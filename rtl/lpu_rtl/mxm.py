"""Matrix unit: ``rows x cols`` multipliers behind the weight SRAM, adder trees and a bank of accumulators."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out, Signature, connect, flipped

from lpu_isa.config import TileConfig, address_bits
from lpu_isa.faults import Fault
from lpu_isa.formats import ACCUMULATOR_BITS, ACCUMULATOR_FRACTION_BITS, ACCUMULATOR_HEADROOM
from lpu_isa.mxm import ACT_READ, TRACKERS, WMEM_READ, Base, Clear, accumulate_cycle
from lpu_isa.mxm import slot as mxm_slot

from .address import NestedAddress, NestedLoop
from .interfaces import FAULT_FLAGS, WEIGHT_READ_LATENCY, AccumulatorRead, BlockWrite, Issue, WeightRead
from .primitives import LUT_RAM, Multiplier18, Technology, replicated

__all__ = ["SIDES", "BlockRead", "Mxm", "block_layout"]

_BYTE = 8
_CODE_BITS = 8
_WALK = 1
"""Cycle of a step in which its addresses are known."""
_ACT_DATA = ACT_READ + 1
_WEIGHT_DATA = WMEM_READ + WEIGHT_READ_LATENCY
"""Cycle of a step in which its weights meet its activations."""
SIDES = 2
"""Of the chip, at which the rows lie."""


def block_layout(config: TileConfig) -> data.StructLayout:
    """An activation block: ``cols`` int8 values and the exponent code that they share."""
    return data.StructLayout({"values": data.ArrayLayout(signed(_BYTE), config.cols), "code": _CODE_BITS})


def BlockRead(config: TileConfig) -> Signature:
    """``address`` in cycle c, ``data`` in cycle c + 2; for the host, while the matrix unit is idle."""
    return Signature({"address": Out(address_bits(config.act_blocks)), "data": In(block_layout(config))})


class _ActivationBuffer(wiring.Component):
    """Activation blocks in LUT RAM, written by parts, read without delay."""

    def __init__(self, config: TileConfig) -> None:
        self.config = config
        super().__init__({
            "write": In(BlockWrite(config)),
            "address": In(address_bits(config.act_blocks)),
            "block": Out(block_layout(config)),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        config, write = self.config, self.write
        part_layout = data.ArrayLayout(signed(_BYTE), config.rows)
        is_first_part = Signal()
        m.d.comb += is_first_part.eq(write.part == 0)
        values = []
        for part in range(config.words_per_block):
            array = memory.Memory(shape=part_layout, depth=config.act_blocks, init=[], attrs=LUT_RAM)
            m.submodules[f"part{part}"] = array
            port, read = array.write_port(), array.read_port(domain="comb")
            is_this_part = write.part == part
            m.d.comb += [
                port.en.eq(write.enable & (is_first_part | is_this_part)),
                port.addr.eq(write.block),
                port.data.eq(Mux(is_this_part, write.data.as_value(), 0)),
                read.addr.eq(self.address),
            ]
            values.append(read.data.as_value())
        m.submodules.codes = codes = memory.Memory(shape=_CODE_BITS, depth=config.act_blocks, init=[], attrs=LUT_RAM)
        port, read = codes.write_port(), codes.read_port(domain="comb")
        m.d.comb += [
            port.en.eq(write.enable & is_first_part),
            port.addr.eq(write.block),
            port.data.eq(write.code),
            read.addr.eq(self.address),
            self.block.values.as_value().eq(Cat(values)),
            self.block.code.eq(read.data),
        ]
        return m


def _shifted(total: Value, amount: Value) -> Value:
    """``total << amount >> len(total)`` with floor: from the sign alone to a shift to the left.

    The low bits of the amount come first, while the value is narrow.
    """
    width = len(total)
    for bit in range(len(amount)):
        by_more = Cat(Const(0, 1 << bit), total)[: width + ACCUMULATOR_BITS].as_signed()
        total = Mux(amount[bit], by_more, total)
    return total[width:].as_signed()


class _Row(wiring.Component):
    """One row: multipliers, adder tree, shift, and its part of the accumulator bank in LUT RAM.

    Rows lie far apart on the chip. So what all of them are told comes a cycle early and is registered in each.

    Ports, in cycles of a step
    --------------------------
    activations : In                        In the cycle before `_WEIGHT_DATA`.
    weights : In                            `_WEIGHT_DATA`.
    amount, is_zero : In                    Before the shift; see `_shifted`.
    address, replace : In                   Before the shift; the entry is read in the cycle of the shift.
    enable : In                             In the cycle of the shift; the entry is written in the next.
    overflow : Out(1)                       After that: the sum did not fit.
    read_address : In, read_sum : Out       Any entry; the sum two cycles later.
    host_reads, host_address : In           The host's entry in its place.
    """

    def __init__(self, config: TileConfig, amounts: range, technology: Technology) -> None:
        self.config, self.technology = config, technology
        factors = data.ArrayLayout(signed(_BYTE), config.cols)
        super().__init__({
            "activations": In(factors),
            "weights": In(factors),
            "amount": In(amounts),
            "is_zero": In(1),
            "enable": In(1),
            "address": In(address_bits(config.accumulators)),
            "replace": In(1),
            "overflow": Out(1),
            "read_address": In(address_bits(config.accumulators)),
            "host_reads": In(1),
            "host_address": In(address_bits(config.accumulators)),
            "read_sum": Out(signed(ACCUMULATOR_BITS)),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        term = Signal(signed(ACCUMULATOR_BITS), reset_less=True)
        shifted = _shifted(self._sum(m), self._here(m, "amount"))
        is_zero = self._here(m, "is_zero")
        with m.If(is_zero):
            m.d.sync += term.eq(0)
        with m.Else():
            m.d.sync += term.eq(shifted)
        self._accumulate(m, term)
        return m

    def _here(self, m: Module, port: str) -> Value:
        """What a port was told a cycle ago, in this row's register."""
        return replicated(m, f"{port}_here", Value.cast(getattr(self, port)), self.technology)

    def _sum(self, m: Module) -> Value:
        """The sum of the products; two levels of the tree a cycle."""
        activations = self._here(m, "activations")
        terms = []
        for col in range(self.config.cols):
            multiplier = Multiplier18(is_signed=True, technology=self.technology)
            m.submodules[f"col{col}"] = multiplier
            m.d.comb += [
                multiplier.a.eq(self.weights[col]),
                multiplier.b.eq(activations.word_select(col, _BYTE).as_signed()),
            ]
            terms.append(multiplier.product[: 2 * _BYTE].as_signed())
        while len(terms) > 1:
            n_terms = min(len(terms), 4)
            sums = []
            for first in range(0, len(terms), n_terms):
                pairs = [
                    self._pair(m, *terms[at : at + 2], name=f"pair{len(terms)}_{at}")
                    for at in range(first, first + n_terms, 2)
                ]
                value = pairs[0] if len(pairs) == 1 else pairs[0] + pairs[1]
                total = Signal(value.shape(), name=f"sum{len(terms)}_{first}", reset_less=True)
                m.d.sync += total.eq(value)
                sums.append(total)
            terms = sums
        return terms[0]

    def _pair(self, m: Module, a: Value, b: Value, *, name: str) -> Value:
        """The sum of two terms.

        Yosys makes carry-save adders of a sum of four, which take twice the LUTs of three adders with carry chains,
        unless it has to keep more bits of a part of the sum than are added further.
        """
        n_bits = len(a) + 1
        total = Signal(signed(n_bits + 1), name=name, attrs={"keep": 1})
        m.d.comb += total.eq(a + b)
        return total[:n_bits].as_signed()

    def _accumulate(self, m: Module, term: Value) -> None:
        shape, depth, n_summed = signed(ACCUMULATOR_BITS), self.config.accumulators, self.config.summed
        m.submodules.bank = bank = memory.Memory(shape=shape, depth=depth, init=[], attrs=LUT_RAM)
        # What can be added to, once more: a port of its own.
        m.submodules.summed = summed = memory.Memory(shape=shape, depth=n_summed, init=[], attrs=LUT_RAM)
        write, read = bank.write_port(), bank.read_port(domain="comb")
        copy, old = summed.write_port(), summed.read_port(domain="comb")
        enable, address, replace = (self._here(m, port) for port in ("enable", "address", "replace"))
        addend, total = Signal(shape, reset_less=True), Signal(shape)
        is_same = Signal(reset_less=True)
        overflow = Signal(reset_less=True)
        read_q = Signal(shape, reset_less=True)
        asked = Mux(self._here(m, "host_reads"), self._here(m, "host_address"), self._here(m, "read_address"))
        m.d.comb += [
            total.eq(addend + term),
            old.addr.eq(address),
            copy.addr.eq(write.addr),
            copy.en.eq(enable & (write.addr < n_summed)),
            copy.data.eq(total),
            write.addr.eq(replicated(m, "address_written", address, self.technology)),
            write.en.eq(enable),
            write.data.eq(total),
            read.addr.eq(asked),
            self.overflow.eq(overflow),
            self.read_sum.eq(read_q),
        ]
        # An entry that the step before writes in this very cycle is not in the memory yet.
        m.d.sync += [
            is_same.eq(self.address == address),
            addend.eq(Mux(replace, 0, Mux(is_same & enable, total, old.data))),
            overflow.eq(enable & (addend[-1] == term[-1]) & (total[-1] != term[-1])),
            read_q.eq(read.data),
        ]


class Mxm(wiring.Component):
    """Matrix unit: weight words times activation blocks into accumulators, one step a cycle.

    Golden model: ``lpu_sw.sim.mxm``. Operations and their latency: ``lpu_isa.mxm``.

    Parameters
    ----------
    config : TileConfig
        Takes ``rows``, ``cols`` and the depths of weight SRAM, activation buffer and accumulator bank.
    technology : Technology
        ``GENERIC`` or ``ECP5``.

    Ports
    -----
    issue : In(Issue)               An operation, in the cycle of its issue.
    stop : In(1)                    Ends the operations under way at once, without a fault.
    weights : Out(WeightRead)       One word a step, from cycle ``WMEM_READ``.
    block_write : In(BlockWrite)    Activation blocks and trackers.
    acc, acc_host : In(AccumulatorRead)     Any time, for the vector unit and for the host, which comes first. Rows
                                            choose between addresses, since it is far to them.
    act : In(BlockRead)             While ``busy`` is low.
    busy : Out(1)                   An operation is under way: from the cycle after its issue to that of its last write.
    faults : Out(FAULT_FLAGS) array     This cycle's, by side of the chip: ISSUE (a walk still runs), COUNT (then no
                                    step is made), ADDRESS, ACCUMULATOR (sum or shift too large).

    Timing: initiation interval ``inner * outer`` cycles. A fault shows one cycle after its cause: ISSUE in the cycle
    after the issue, COUNT two cycles after it, ADDRESS and ACCUMULATOR one cycle after the access. Steps behind it go
    on until ``stop``. Trackers are reset to 0; the contents of the memories are not reset.
    """

    def __init__(self, config: TileConfig, technology: Technology = Technology.GENERIC) -> None:
        self.config, self.technology = config, technology
        self.slot = mxm_slot(config)
        super().__init__({
            "issue": In(Issue(self.slot)),
            "stop": In(1),
            "weights": Out(WeightRead(config)),
            "block_write": In(BlockWrite(config)),
            "acc": In(AccumulatorRead(config)),
            "acc_host": In(AccumulatorRead(config)),
            "act": In(BlockRead(config)),
            "busy": Out(1),
            "faults": Out(FAULT_FLAGS).array(SIDES),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self.config
        accumulate = accumulate_cycle(config)
        shift = accumulate - 1
        # Two registers of the multipliers, and the tree; the activations come in two hops, the amount is made then.
        assert shift == _WEIGHT_DATA + 2 + -(-config.tree_levels // 2)
        assert _ACT_DATA + 2 == _WEIGHT_DATA and _ACT_DATA + 2 <= shift - 1
        op, operands = self.issue.op, self.issue.operands

        def later(value: Value, at: int, until: int, name: str) -> Value:
            """What ``value`` was in cycle ``at`` of a step, in its cycle ``until``."""
            for cycle in range(at + 1, until + 1):
                register = Signal(value.shape(), name=f"{name}_{cycle}", reset_less=True)
                m.d.sync += register.eq(value)
                value = register
            return value

        # The walk. `at[c]` says that a step is in its cycle c, counted like the ISA's from issue of step 0.
        m.submodules.loop = loop = NestedLoop()
        m.d.comb += [
            loop.start.eq(self.issue.start),
            loop.inner_count.eq(op.inner + operands.inner_reg.as_signed()),
            loop.outer_count.eq(op.outer + operands.outer_reg.as_signed()),
            loop.stop.eq(self.stop),
        ]
        at = {_WALK: loop.active}
        for cycle in range(_WALK + 1, accumulate + 1):
            at[cycle] = Signal(name=f"at_{cycle}")
            m.d.sync += at[cycle].eq(at[cycle - 1] & ~self.stop)
        m.d.comb += self.busy.eq(Cat(at.values()).any())

        walks = {}
        for name, depth, first, first_bits in (
            ("weights", config.wmem_words, op.weights + operands.weights_reg.as_signed(), 32),
            ("act", config.act_blocks, op.act, address_bits(config.act_blocks) + 1),
            ("acc", config.accumulators, op.acc, address_bits(config.accumulators) + 1),
        ):
            walks[name] = walk = NestedAddress(depth, first_bits)
            m.submodules[f"{name}_address"] = walk
            m.d.comb += [
                walk.start.eq(self.issue.start),
                walk.first.eq(first),
                walk.inner_stride.eq(op[f"{name}_inner"]),
                walk.outer_stride.eq(op[f"{name}_outer"]),
                walk.inner_is_last.eq(loop.inner_is_last),
            ]
        m.d.comb += [
            self.weights.enable.eq(at[WMEM_READ]),
            self.weights.address.eq(later(walks["weights"].address, _WALK, WMEM_READ, "weights_address")),
        ]

        # What the steps of an operation have in common, from its cycle 1 on.
        clear = Signal(Clear, reset_less=True)
        source = Signal(Base, reset_less=True)
        exponent = Signal(_CODE_BITS, reset_less=True)
        tracker = Signal(range(TRACKERS), reset_less=True)
        with m.If(self.issue.start):
            m.d.sync += [
                clear.eq(op.clear),
                source.eq(op.base),
                exponent.eq(op.exponent),
                tracker.eq(op.tracker),
            ]
        replace = Signal()
        m.d.comb += replace.eq(
            ((clear == Clear.INNER) & loop.inner_is_first) | ((clear == Clear.OUTER) & loop.outer_is_first)
        )

        # Trackers and base code, read in cycle ACT_READ of the first step.
        trackers = Signal(data.ArrayLayout(_CODE_BITS, TRACKERS))
        write = self.block_write
        with m.If(write.enable & (write.part == 0)):
            with m.If(write.first | (write.code > trackers[write.tracker])):
                m.d.sync += trackers[write.tracker].eq(write.code)
        is_first = later(loop.is_first, _WALK, ACT_READ, "is_first")
        is_tracked = later(source == Base.TRACKER, _WALK, ACT_READ, "is_tracked")
        tracked = trackers[later(tracker, _WALK, ACT_READ, "tracker")]
        immediate = later(exponent, _WALK, ACT_READ, "exponent")
        base = Signal(_CODE_BITS, reset_less=True)
        with m.If(is_first & at[ACT_READ]):
            m.d.sync += base.eq(Mux(is_tracked, tracked, immediate))

        # The activation block; the host's read goes through the same port.
        m.submodules.buffer = buffer = _ActivationBuffer(config)
        connect(m, flipped(write), buffer.write)
        block = Signal(block_layout(config), reset_less=True)
        assert ACT_READ == _WALK + 1
        act_address = Signal.like(buffer.address, reset_less=True)
        m.d.comb += [buffer.address.eq(act_address), self.act.data.eq(block)]
        m.d.sync += [
            act_address.eq(Mux(at[_WALK], walks["act"].address, self.act.address)),
            block.eq(buffer.block),
        ]

        # The amount of the shift: the width of a sum more than the left shift, so that it is not negative.
        unit = ACCUMULATOR_FRACTION_BITS + 2 * _BYTE + config.tree_levels
        amounts = range(unit + ACCUMULATOR_HEADROOM + 1)
        spread = Signal(signed(_CODE_BITS + 1), reset_less=True)
        is_zero = Signal(reset_less=True)
        amount = Signal(amounts, reset_less=True)
        m.d.sync += [spread.eq(block.code - base), is_zero.eq(block.code == 0)]
        with m.If(spread < -unit):
            m.d.sync += amount.eq(0)
        with m.Else():
            m.d.sync += amount.eq(spread + unit)
        is_too_large = ~is_zero & (spread > ACCUMULATOR_HEADROOM)

        amount = later(amount, _ACT_DATA + 2, shift - 1, "amount")
        row_is_zero = later(is_zero, _ACT_DATA + 1, shift - 1, "is_zero")
        acc_address = later(walks["acc"].address, _WALK, shift - 2, "acc_address")
        address_before = later(walks["acc"].address, _WALK, _WALK + 1, "address_before")
        follows = ~loop.is_first & (walks["acc"].address == address_before)
        is_unsummed = ~replace & ~follows & (walks["acc"].address >= config.summed)
        replace = later(replace, _WALK, shift - 1, "replace")

        def at_sides(name: str, value: Value) -> list[Value]:
            """``value`` a cycle later, at either side."""
            return [replicated(m, f"{name}_of_side{side}", value, self.technology) for side in range(SIDES)]

        activations = at_sides("activations", block.values.as_value())
        acc_addresses = at_sides("acc_address", acc_address)
        overflows: list[list[Value]] = [[] for _ in range(SIDES)]
        for index in range(config.rows):
            m.submodules[f"row{index}"] = row = _Row(config, amounts, self.technology)
            side = index * SIDES // config.rows
            m.d.comb += [
                row.activations.eq(activations[side]),
                row.weights.eq(self.weights.data[index]),
                row.amount.eq(amount),
                row.is_zero.eq(row_is_zero),
                row.enable.eq(at[shift] & ~self.stop),
                row.address.eq(acc_addresses[side]),
                row.replace.eq(replace),
                row.read_address.eq(self.acc.address),
                row.host_reads.eq(self.acc_host.enable),
                row.host_address.eq(self.acc_host.address),
                *(port.data.sums[index].eq(row.read_sum) for port in (self.acc, self.acc_host)),
            ]
            overflows[side].append(row.overflow)

        # The base codes of the entries.
        depth = config.accumulators
        m.submodules.bases = bases = memory.Memory(shape=_CODE_BITS, depth=depth, init=[], attrs=LUT_RAM)
        base_write, base_read = bases.write_port(), bases.read_port(domain="comb")
        base_q = Signal(_CODE_BITS, reset_less=True)
        base_address = Signal.like(base_read.addr, reset_less=True)
        m.d.sync += [
            base_address.eq(Mux(self.acc_host.enable, self.acc_host.address, self.acc.address)),
            base_q.eq(base_read.data),
        ]
        m.d.comb += [
            base_write.en.eq(at[accumulate]),
            base_write.addr.eq(later(acc_address, shift - 2, accumulate, "base_address")),
            base_write.data.eq(later(base, _ACT_DATA, accumulate, "base")),
            base_read.addr.eq(base_address),
            *(port.data.base.eq(base_q) for port in (self.acc, self.acc_host)),
        ]

        outside = [
            later(walks["weights"].is_outside, _WALK, WMEM_READ, "weights_outside") & at[WMEM_READ],
            later(walks["act"].is_outside, _WALK, ACT_READ, "act_outside") & at[ACT_READ],
            later(walks["acc"].is_outside | is_unsummed, _WALK, accumulate, "acc_outside") & at[accumulate],
        ]
        too_large = later(is_too_large, _ACT_DATA + 1, accumulate, "too_large") & at[accumulate]
        raised, was_stopped = Signal(FAULT_FLAGS), Signal()
        m.d.sync += was_stopped.eq(self.stop)
        for fault, is_raised in (
            (Fault.ACCUMULATOR, too_large),
            (Fault.COUNT, loop.is_bad_count),
            (Fault.ADDRESS, Cat(outside).any()),
            (Fault.ISSUE, loop.is_clash),
        ):
            m.d.sync += raised[fault].eq(is_raised & ~self.stop)
        for side, of_rows in enumerate(overflows):
            overflow = Cat(of_rows).any() & ~was_stopped
            others = raised if side == SIDES - 1 else 0
            m.d.comb += self.faults[side].eq(others | (overflow << Fault.ACCUMULATOR))
        return m
