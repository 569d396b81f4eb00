"""Vector unit: one pass of vectors through the chain, to memory, reduction and quantiser.

A pass is computed unit by unit, all its vectors at once (`lpu_sw.sim.chain`). First the units' results are left
unsettled, and settling is checked once for the whole chain; only if it would change something the chain is computed
again with every result settled and its faults looked at.
"""

from collections.abc import Mapping

import numpy as np

from lpu_isa import vxm
from lpu_isa.faults import Fault
from lpu_isa.fields import REGISTERS
from lpu_isa.mxm import COUNT_BITS
from lpu_isa.tables import Function
from lpu_isa.vxm import TO_BLOCKS, Add, Gain, Multiply, Quantise, Reduce, Source, Write

from .arithmetic import Arithmetic, BlockQuantiser, IntegerQuantiser, argmax, quantise_static, reduce_max
from .chain import Call, Chain
from .state import TileState, Trap
from .sxm import Switch
from .walk import Walk

__all__ = ["Pass"]

_COUNT_MAX = (1 << COUNT_BITS) - 1
_CLAMPED_MAX = (1 << 32) - 1
_ZERO = np.array(0.0)


class Pass:
    """A vector operation, bound to a tile's state. ``op`` holds every field.

    ``switch``: the switch operation of the same bundle. A source SXM without it, or it without that source, is the
    fault ``CONFLICT``; so is SUM_SQUARES beside a gain, since both need the second multiplier.
    """

    def __init__(
        self, state: TileState, arithmetic: Arithmetic, op: Mapping[str, int], switch: Switch | None = None
    ) -> None:
        self.state = state
        self.arithmetic = arithmetic
        self.op = op
        self.count = 0
        """Vectors of the last issue."""
        self._lanes = self._rows = state.config.rows
        self._interval = op["interval"]
        self._switch = switch
        self._stages = vxm.stages(op)
        self._source = Source(op["source"])
        self._write = Write(op["write"])
        self._reduce = Reduce(op["reduce"])
        self._quantise = Quantise(op["quantise"])
        self._is_to_blocks = self._quantise in TO_BLOCKS
        self._function = Function(op["function"])
        self._has_domain = self._function in (Function.RECIPROCAL, Function.RSQRT)
        self._static_fault = self._find_static_fault()
        self._traps: list[Trap] = []
        """What went wrong in the last issue."""

        read = vxm.SOURCE_READ[self._source]
        memory = {Source.ACC: state.acc, Source.WMEM: state.wmem}.get(self._source, state.vmem)
        self._x = self._walk("x", memory, read)
        self._bases = self._walk("x", state.acc_bases, read)
        self._d = self._walk("d", state.smem if self._write is Write.SMEM else state.vmem, self._stages.result)
        landed = self._stages.result + vxm.quantise_latency(state.config)
        self._q = self._walk("q", state.act if self._is_to_blocks else state.wmem, landed)
        self._q_codes = self._walk("q", state.act_codes, landed)
        self._chains: dict[int, Chain] = {}
        self._chain: Chain
        """Of the last issue's number of vectors."""
        self._copies: list[tuple[np.ndarray, np.ndarray]] = []
        self._bound_copies: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        """By number of vectors, where no register moves them."""
        self._is_bound = False
        """Whether chain and copies are those of every issue."""
        self._reduced: list[int] = []
        self._quantised: np.ndarray = state.vmem[:0]
        self._written_words: np.ndarray = state.wmem[:0]
        self._index = self._clamped = 0

    def compute(self) -> None:
        """Read the operands and make the results. Raises the `Trap` that comes first."""
        traps = self._traps
        traps.clear()
        if not self._is_bound:
            self._bind()
        chain = self._chain
        for call in chain.calls:
            call()
        if self._lanes < self._rows:
            chain.result[-1, self._lanes :] = 0.0
        if self._reduce is Reduce.SUM_SQUARES:
            chain.square()
        if traps or self._has_domain or not chain.is_settled():
            self._settle(chain)
        if self._reduce is not Reduce.NONE:
            self._reduced = self._reduction(chain)
        if traps:
            raise min(traps, key=lambda trap: (trap.cycle, trap.fault))
        if self._is_to_blocks:
            for call in chain.quantiser.calls:
                call()
        elif self._quantise is not Quantise.NONE:
            self._quantised, clamped = quantise_static(chain.result)
            self._clamped = int(np.count_nonzero(clamped))
            self._index = self.state.registers[self.op["index_reg"]]

    def commit(self) -> None:
        """Write memory, scalar registers and the quantised values."""
        for target, source in self._copies:
            target[...] = source
        if self._reduce is not Reduce.NONE:
            for offset, word in enumerate(self._reduced):
                register = (self.op["reduce_reg"] + offset) % REGISTERS
                if register:
                    self.state.registers[register] = word
        if self._is_to_blocks:
            self.state.trackers[self.op["tracker"]] = max(self._chain.quantiser.codes.tolist())
        elif self._quantise is not Quantise.NONE:
            self._commit_weights()

    # Set-up.

    def _walk(self, name: str, memory: np.ndarray, cycle: int) -> Walk:
        op = self.op
        return Walk(self.state, memory, op[name], op[f"{name}_reg"], op[f"{name}_step"], cycle, self._traps)

    def _find_static_fault(self) -> Fault:
        op = self.op
        if (self._source is Source.SXM) != (self._switch is not None):
            return Fault.CONFLICT
        if self._reduce is Reduce.SUM_SQUARES and op["gain"] != Gain.NONE:
            return Fault.CONFLICT
        if op["interval"] < 1 or not 1 <= op["block"] <= self.state.config.words_per_block:
            return Fault.COUNT
        if self._quantise is not Quantise.NONE and op["interval"] != 1:
            return Fault.COUNT
        return Fault.NONE

    def _bind(self) -> None:
        """Find the chain for the number of vectors, and where its results go. Raises `Trap` for a bad count."""
        state, op = self.state, self.op
        count, lanes = vxm.count_and_lanes(op, state.registers)
        if self._static_fault:
            raise Trap(self._static_fault, state.cycles)
        if not (1 <= count <= _COUNT_MAX and 1 <= lanes <= self._rows):
            raise Trap(Fault.COUNT, state.cycles)
        self.count, self._lanes = count, lanes
        if count not in self._chains:
            self._chains[count] = self._make_chain(count)
        self._chain = self._chains[count]
        copies = self._bound_copies.get(count)
        if copies is None:
            copies = self._make_copies(self._chain, count)
            is_static = self._quantise in (Quantise.ROW, Quantise.COLUMN)
            if not (op["d_reg"] or op["q_reg"] or is_static or self._traps):
                self._bound_copies[count] = copies
        self._copies = copies
        self._is_bound = count in self._bound_copies and not (op["count_reg"] or op["lanes_reg"])

    def _make_copies(self, chain: Chain, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Where the results of ``count`` vectors go now, and what of them: of several for one word the last."""
        pairs = []
        if self._write is not Write.NONE:
            pairs.append((self._d.written(count, self._interval), chain.result))
        block = self.op["block"]
        blocks = -(-count // block)
        if self._is_to_blocks:
            quantised = chain.quantiser.quantised
            written, width = self._q.written(blocks, block), quantised.shape[1]
            pairs += [
                (self._q_codes.written(blocks, block), chain.quantiser.codes),
                (written[:, :width], quantised),
                (written[:, width:], np.zeros((blocks, self.state.config.cols - width))),
            ]
        elif self._quantise is Quantise.ROW:
            self._written_words = self._q.written(blocks, block)
        elif self._quantise is Quantise.COLUMN:
            self._written_words = self._q.written(count)
        return [(target, source[-len(target) :]) for target, source in pairs if target.size]

    def _make_chain(self, count: int) -> Chain:
        """The units, for ``count`` vectors."""
        op, stages = self.op, self._stages
        make_quantiser = IntegerQuantiser if self._quantise is Quantise.INTEGERS else BlockQuantiser
        chain = Chain(self.arithmetic, count, self._rows, op["block"], make_quantiser)
        chain.start(*self._bound_source(count))
        if self._source is Source.ACC:
            chain.add_conversion(*self._bound(self._bases, count), stages.convert + vxm.CONVERT)
        if op["multiply"] != Multiply.NONE:
            factor = self._operand("multiply", Multiply(op["multiply"]).name, stages.multiply, count)
            chain.add_rounded(np.multiply, *factor, stages.multiply + vxm.MULTIPLY)
        if op["add"] != Add.NONE:
            sign, _, kind = Add(op["add"]).name.rpartition("_")
            term = self._operand("add", kind, stages.add, count)
            chain.add_rounded(np.subtract if sign == "MINUS" else np.add, *term, stages.add + vxm.ADD)
        if self._function is not Function.NONE:
            chain.add_function(self._function, stages.function + vxm.FUNCTION)
        if op["gain"] == Gain.SELF:
            chain.add_gain_by_itself(stages.gain + vxm.MULTIPLY)
        elif op["gain"] != Gain.NONE:
            gain = self._operand("gain", Gain(op["gain"]).name, stages.gain, count)
            chain.add_rounded(np.multiply, *gain, stages.gain + vxm.MULTIPLY)
        if op["relu"]:
            chain.add_relu(stages.result)
        elif not chain.units:
            chain.add_copy(stages.result)
        if self._reduce is Reduce.SUM_SQUARES:
            chain.add_squares()
        return chain

    def _bound(self, walk: Walk, count: int) -> tuple[np.ndarray, list[Call]]:
        """Where the words of a walk stand, and the calls that bring them there at each issue."""
        if walk.is_fixed and not walk.is_outside(count):
            return walk.words(count), []
        room = walk.room(count)

        def bring() -> None:
            room[...] = walk.words(count, self._interval)

        return room, [bring]

    def _operand(self, unit: str, kind: str, stage: int, count: int) -> tuple[np.ndarray, list[Call]]:
        """The second operand of a unit, as `_bound`."""
        state, op = self.state, self.op
        if kind != "SCALAR":
            memory, name = (state.vmem, "b") if kind == "B" else (state.smem, "c")
            return self._bound(self._walk(name, memory, stage - vxm.OPERAND_READ), count)
        decode, first, registers = self.arithmetic.decode, op[f"{unit}_reg"], state.registers
        if not (unit == "gain" and op["gain_step"]):
            scalar = np.empty(())
            return scalar, [lambda: scalar.fill(decode(registers[first]))]
        scalars, named = np.empty((count, self._rows)), [(first + step) % REGISTERS for step in range(count)]

        def bring() -> None:
            for row, register in zip(scalars, named, strict=True):
                row.fill(decode(registers[register]))

        return scalars, [bring]

    def _bound_source(self, count: int) -> tuple[np.ndarray, list[Call]]:
        """The source vectors (count, rows): integers if a conversion follows. Never written to."""
        if self._source is Source.WMEM:
            return self._bound_weight_row(count)
        vectors, calls = self._bound(self._x, count)
        if self._switch is None:
            return vectors, calls
        switch, switched = self._switch, np.empty((count, self._rows))
        return switched, [*calls, lambda: vectors.take(switch.sources(), 1, switched, "clip")]

    def _bound_weight_row(self, count: int) -> tuple[np.ndarray, list[Call]]:
        """Integers of one row of some weight words; as floats they are exact, so that converting them does no more than
        turn a -0 into +0."""
        registers, row_register, rows = self.state.registers, self.op["row_reg"], self._rows
        parts = self.state.config.words_per_block
        vectors = np.empty((count, rows))

        def bring() -> None:
            # The address moves on once every `parts` steps.
            words = self._x.words(-(-count // parts), self._interval * parts)
            np.add(words[:, registers[row_register] % rows].reshape(-1, rows)[:count], _ZERO, vectors)

        return vectors, [bring]

    # The pass itself.

    def _settle(self, chain: Chain) -> None:
        """Compute the chain again with every result brought into range, and note what goes wrong in it."""
        for unit in chain.units:
            outside = self.arithmetic.functions.outside_domain(unit.function, unit.x)
            for call in unit.calls:
                call()
            self._settle_results(unit.out, unit.ready, outside)
        chain.result[-1, self._lanes :] = 0.0
        if self._reduce is Reduce.SUM_SQUARES:
            chain.square()
            self._settle_results(chain.squares, self._stages.gain + vxm.MULTIPLY)

    def _settle_results(self, values: np.ndarray, ready: int, outside: np.ndarray | None = None) -> None:
        """Settle in place. Add a trap for the first vector with a fault in a valid lane."""
        values[...], faults = self.arithmetic.settle(values)
        if outside is not None:
            faults[outside] = Fault.FUNCTION
        faults[-1, self._lanes :] = Fault.NONE
        steps, lanes = np.nonzero(faults)
        if len(steps):
            step = int(steps[0])
            fault = Fault(int(faults[step, lanes[steps == step]].min()))
            self._traps.append(Trap(fault, self.state.cycles + ready + step * self._interval))

    def _reduction(self, chain: Chain) -> list[int]:
        """Words for the scalar registers from `reduce_reg` on."""
        arithmetic, state = self.arithmetic, self.state
        if self._reduce in (Reduce.SUM, Reduce.SUM_SQUARES):
            start = arithmetic.decode(state.registers[self.op["start_reg"]])
            total, overflows = chain.reducer.sum(start)
            if overflows:
                cycle = self._stages.reduce + (self.count - 1) * self._interval + vxm.REDUCE
                self._traps.append(Trap(Fault.FLOAT, state.cycles + cycle))
            return [arithmetic.encode(total)]
        valid = chain.result.ravel()[: (self.count - 1) * self._rows + self._lanes]
        if self._reduce is Reduce.MAX:
            return [arithmetic.encode(reduce_max(valid))]
        index, value = argmax(valid)
        return [index, arithmetic.encode(value)]

    def _commit_weights(self) -> None:
        state, config = self.state, self.state.config
        state.clamped = min(state.clamped + self._clamped, _CLAMPED_MAX)
        words, quantised = self._written_words, self._quantised
        if self._quantise is Quantise.COLUMN:
            words[:, :, self._index % config.cols] = quantised[-len(words) :]
            return
        row, block = self._index % config.rows, self.op["block"]
        for step in range(0, self.count, block):
            part = quantised[step : step + block].ravel()
            # With a step of 0 there is one word for all blocks.
            words[step // block % len(words), row, : len(part)] = part
