"""Matrix unit: ``rows x cols`` multipliers behind the weight SRAM, adder trees and a bank of accumulators."""

from amaranth import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out, Signature, connect, flipped
from amaranth.utils import exact_log2

from lpu_isa.config import TileConfig, address_bits
from lpu_isa.faults import Fault
from lpu_isa.formats import ACCUMULATOR_BITS, ACCUMULATOR_FRACTION_BITS, ACCUMULATOR_HEADROOM
from lpu_isa.mxm import ACCUMULATE_OFFSET, ACT_READ, TRACKERS, WMEM_READ, Base, Clear
from lpu_isa.mxm import slot as mxm_slot

from .address import NestedAddress, NestedLoop
from .interfaces import FAULT_BITS, AccumulatorRead, BlockWrite, Issue, WeightRead, accumulator_layout
from .primitives import Multiplier18, Technology

__all__ = ["BlockRead", "Mxm", "block_layout"]

_BYTE = 8
_CODE_BITS = 8
_LUT_RAM = {"ram_style": "distributed"}
"""Keeps Yosys from using block RAMs, which are all needed elsewhere and would be slower without an output register."""
_WEIGHT_DATA = WMEM_READ + 2
_PRODUCT = _WEIGHT_DATA + 2
"""Cycle in which a product can be used: the multipliers have a register before and one behind."""


def block_layout(config: TileConfig) -> data.StructLayout:
    """An activation block: ``cols`` int8 values and the exponent code that they share."""
    return data.StructLayout({"values": data.ArrayLayout(signed(_BYTE), config.cols), "code": _CODE_BITS})


def BlockRead(config: TileConfig) -> Signature:
    """``address`` in cycle c, ``data`` in cycle c + 1; for the host, while the matrix unit is idle."""
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
            array = memory.Memory(shape=part_layout, depth=config.act_blocks, init=[], attrs=_LUT_RAM)
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
        m.submodules.codes = codes = memory.Memory(shape=_CODE_BITS, depth=config.act_blocks, init=[], attrs=_LUT_RAM)
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


class _DotProduct(wiring.Component):
    """One row: products of weights and activations, summed by a tree with a register a level.

    Ports
    -----
    weights, activations : In       Cycle c.
    sum : Out                       Cycle c + 2 + tree levels.
    """

    def __init__(self, cols: int, technology: Technology) -> None:
        self.cols, self.technology = cols, technology
        factors = data.ArrayLayout(signed(_BYTE), cols)
        super().__init__({
            "weights": In(factors),
            "activations": In(factors),
            "sum": Out(signed(2 * _BYTE + exact_log2(cols))),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        terms = []
        for col in range(self.cols):
            multiplier = Multiplier18(is_signed=True, technology=self.technology)
            m.submodules[f"col{col}"] = multiplier
            m.d.comb += [multiplier.a.eq(self.weights[col]), multiplier.b.eq(self.activations[col])]
            terms.append(multiplier.product[: 2 * _BYTE].as_signed())
        level = 0
        while len(terms) > 1:
            sums = []
            for index in range(0, len(terms), 2):
                shape = signed(len(terms[0]) + 1)
                total = Signal(shape, name=f"level{level}_{index // 2}", reset_less=True)
                m.d.sync += total.eq(terms[index] + terms[index + 1])
                sums.append(total)
            terms, level = sums, level + 1
        m.d.comb += self.sum.eq(terms[0])
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


class _Accumulators(wiring.Component):
    """The accumulator bank in LUT RAM: one entry read, added to and written a cycle, another one read.

    Ports
    -----
    enable, address : In            Cycle c; the entry changes at the end of it.
    terms : In                      What is added to each sum, or replaces it when ``replace``.
    base : In(8)                    Stored with the entry.
    overflow : Out(1)               In cycle c: a sum does not fit.
    read : In(AccumulatorRead)      Address in cycle c, entry in cycle c + 1.
    """

    def __init__(self, config: TileConfig) -> None:
        self.config = config
        super().__init__({
            "enable": In(1),
            "address": In(address_bits(config.accumulators)),
            "terms": In(data.ArrayLayout(signed(ACCUMULATOR_BITS), config.rows)),
            "replace": In(1),
            "base": In(_CODE_BITS),
            "overflow": Out(1),
            "read": In(AccumulatorRead(config)),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self.config
        layout = accumulator_layout(config)
        m.submodules.bank = bank = memory.Memory(shape=layout, depth=config.accumulators, init=[], attrs=_LUT_RAM)
        write, old, read = bank.write_port(), bank.read_port(domain="comb"), bank.read_port(domain="comb")
        read_q = Signal(layout, reset_less=True)
        does_not_fit = Signal(config.rows)
        for row in range(config.rows):
            addend = Signal(signed(ACCUMULATOR_BITS), name=f"addend{row}")
            term, total = self.terms[row], Signal(signed(ACCUMULATOR_BITS), name=f"total{row}")
            m.d.comb += [
                addend.eq(Mux(self.replace, 0, old.data.sums[row])),
                total.eq(addend + term),
                does_not_fit[row].eq((addend[-1] == term[-1]) & (total[-1] != term[-1])),
                write.data.sums[row].eq(total),
            ]
        m.d.sync += read_q.eq(read.data)
        m.d.comb += [
            old.addr.eq(self.address),
            write.addr.eq(self.address),
            write.en.eq(self.enable),
            write.data.base.eq(self.base),
            self.overflow.eq(self.enable & does_not_fit.any()),
            read.addr.eq(self.read.address),
            self.read.data.eq(read_q),
        ]
        return m


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
    acc : In(AccumulatorRead)       Any time.
    act : In(BlockRead)             While ``busy`` is low.
    busy : Out(1)                   An operation is under way: from the cycle after its issue to that of its last write.
    fault : Out                     A `Fault` for one cycle, else 0: ISSUE (a walk still runs), COUNT (then no step is
                                    made), ADDRESS, ACCUMULATOR (sum or shift too large).

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
            "act": In(BlockRead(config)),
            "busy": Out(1),
            "fault": Out(FAULT_BITS),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        config = self.config
        accumulate = ACCUMULATE_OFFSET + config.tree_levels
        shift = accumulate - 1
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
        at = {WMEM_READ: loop.active}
        for cycle in range(WMEM_READ + 1, accumulate + 1):
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
        m.d.comb += [self.weights.enable.eq(loop.active), self.weights.address.eq(walks["weights"].address)]

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
        is_first = later(loop.is_first, WMEM_READ, ACT_READ, "is_first")
        is_tracked = later(source == Base.TRACKER, WMEM_READ, ACT_READ, "is_tracked")
        tracked = trackers[later(tracker, WMEM_READ, ACT_READ, "tracker")]
        immediate = later(exponent, WMEM_READ, ACT_READ, "exponent")
        base = Signal(_CODE_BITS, reset_less=True)
        with m.If(is_first & at[ACT_READ]):
            m.d.sync += base.eq(Mux(is_tracked, tracked, immediate))

        # The activation block; the host's read goes through the same port.
        m.submodules.buffer = buffer = _ActivationBuffer(config)
        connect(m, flipped(write), buffer.write)
        block = Signal(block_layout(config), reset_less=True)
        act_address = later(walks["act"].address, WMEM_READ, ACT_READ, "act_address")
        m.d.comb += [
            buffer.address.eq(Mux(at[ACT_READ], act_address, self.act.address)),
            self.act.data.eq(block),
        ]
        m.d.sync += block.eq(buffer.block)

        # Products and their sums.
        sums = []
        for row in range(config.rows):
            product = _DotProduct(config.cols, self.technology)
            m.submodules[f"row{row}"] = product
            m.d.comb += [product.weights.eq(self.weights.data[row]), product.activations.eq(block.values)]
            sums.append(product.sum)

        # Beside them the amount of the shift: len(sum) more than the left shift, so that it is not negative.
        unit = ACCUMULATOR_FRACTION_BITS + len(sums[0])
        largest = unit + ACCUMULATOR_HEADROOM
        spread = Signal(signed(_CODE_BITS + 1), reset_less=True)
        is_zero = Signal(reset_less=True)
        amount = Signal(range(largest + 1), reset_less=True)
        is_too_large = Signal()
        m.d.sync += [spread.eq(block.code - base), is_zero.eq(block.code == 0)]
        with m.If(spread < -unit):
            m.d.sync += amount.eq(0)
        with m.Else():
            m.d.sync += amount.eq(spread + unit)
        m.d.comb += is_too_large.eq(~is_zero & (spread > ACCUMULATOR_HEADROOM))

        amount = later(amount, _PRODUCT, shift, "amount")
        is_zero = later(is_zero, _WEIGHT_DATA + 1, shift, "is_zero")
        terms = Signal(data.ArrayLayout(signed(ACCUMULATOR_BITS), config.rows), reset_less=True)
        for row in range(config.rows):
            with m.If(is_zero):
                m.d.sync += terms[row].eq(0)
            with m.Else():
                m.d.sync += terms[row].eq(_shifted(sums[row], amount))

        m.submodules.accumulators = accumulators = _Accumulators(config)
        m.d.comb += [
            accumulators.enable.eq(at[accumulate]),
            accumulators.address.eq(later(walks["acc"].address, WMEM_READ, accumulate, "acc_address")),
            accumulators.terms.eq(terms),
            accumulators.replace.eq(later(replace, WMEM_READ, accumulate, "replace")),
            accumulators.base.eq(later(base, ACT_READ + 1, accumulate, "base")),
            accumulators.read.address.eq(self.acc.address),
            self.acc.data.eq(accumulators.read.data),
        ]

        outside = [
            walks["weights"].is_outside & at[WMEM_READ],
            later(walks["act"].is_outside, WMEM_READ, ACT_READ, "act_outside") & at[ACT_READ],
            later(walks["acc"].is_outside, WMEM_READ, accumulate, "acc_outside") & at[accumulate],
        ]
        too_large = later(is_too_large, _WEIGHT_DATA + 1, accumulate, "too_large") & at[accumulate]
        m.d.sync += self.fault.eq(Fault.NONE)
        with m.If(~self.stop):
            for fault, is_raised in (  # the lowest code comes last and wins
                (Fault.ACCUMULATOR, accumulators.overflow | too_large),
                (Fault.COUNT, loop.is_bad_count),
                (Fault.ADDRESS, Cat(outside).any()),
                (Fault.ISSUE, loop.is_clash),
            ):
                with m.If(is_raised):
                    m.d.sync += self.fault.eq(fault)
        return m
