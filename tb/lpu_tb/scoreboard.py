"""The whole architectural state of the tile against the simulator's, after every program."""

import copy
from collections.abc import Sequence

import numpy as np

from lpu_isa.config import TileConfig
from lpu_isa.faults import Fault
from lpu_isa.formats import FloatFormat
from lpu_isa.host import Register, Status, Window
from lpu_sw.host.protocol import TileDevice, TileSnapshot
from lpu_sw.image import Image
from lpu_sw.sim.state import TileState
from lpu_sw.sim.tile import Simulator

__all__ = ["Mismatch", "Scoreboard"]

_SHOWN = 5
_FLOATS = (Window.VMEM, Window.SMEM)


class Mismatch(AssertionError):
    """Tile and simulator differ; the text lists where, and both values."""


class Scoreboard:
    """Runs images on a tile and on the simulator, from the same state.

    Memories carry over from one image to the next, so that what an earlier program left behind is a test of the next.
    """

    def __init__(self, device: TileDevice, seed: int) -> None:
        self.device = device
        self.state = TileState(device.config)
        self._rng = np.random.default_rng(seed)

    async def fill(self) -> None:
        """Give all memories the same random contents on both sides; the simulator adopts what the host cannot write."""
        self.state.randomise(self._rng)
        for window in (Window.WMEM, Window.VMEM, Window.SMEM):
            await self.device.write_window(window, self.state.export(window))
        await self.adopt()

    async def adopt(self) -> None:
        """Give the simulator what the tile's accumulators and activation blocks hold, as after a fault."""
        accumulators = await self.device.read_window(Window.ACC)
        self.state.acc[:] = np.ascontiguousarray(accumulators).view("<i8")
        blocks = await self.device.read_window(Window.ACT)
        self.state.act[:] = np.ascontiguousarray(blocks[:, :-1]).view(np.int8)
        self.state.act_codes[:] = blocks[:, -1]

    async def load(self, image: Image) -> None:
        """Load an image on both sides."""
        await self.device.load(image)
        for section in image.sections:
            self.state.load(section.window, section.words, section.address)

    async def run(self, image: Image, inbox: Sequence[int] | None = None, *, is_late: bool = False) -> TileSnapshot:
        """Load and run an image on both until it stops; raises `Mismatch` if any state then differs.

        inbox : words for the program, by default those that the image brings.
        is_late : the tile gets each word only when it waits for one.
        """
        words = image.metadata.get("inbox", []) if inbox is None else inbox
        await self.load(image)
        await self.device.start([] if is_late else words)
        for word in words if is_late else ():
            while not await self.device.register(Register.STATUS) & Status.WAITING:
                pass
            await self.device.push(word)
        self.state.reset()
        self.state.inbox.extend(words)
        program = image.to_program()
        simulator = Simulator(image.config, program.bundles, program.timings.tolist(), self.state)
        simulator.start()
        simulator.run()
        await self.device.finish()
        found = await self.device.snapshot()
        self.compare(found)
        return found

    def predicted_fault(self, image: Image) -> tuple[Fault, int]:
        """Fault and its bundle, as the simulator has them, of an image that has been loaded; its state is kept."""
        state = copy.deepcopy(self.state)
        state.reset()
        state.inbox.extend(image.metadata.get("inbox", []))
        program = image.to_program()
        Simulator(image.config, program.bundles, program.timings.tolist(), state).run()
        return state.fault, state.fault_pc

    def compare(self, found: TileSnapshot) -> None:
        """Raise `Mismatch` unless the tile's state is the simulator's."""
        state, config = self.state, self.device.config
        differences = []
        for name, tile, simulator in (
            ("fault", found.fault.name, state.fault.name),
            ("fault pc", found.fault_pc, state.fault_pc),
            ("cycles", found.cycles, state.cycles),
            ("halted", bool(found.status & Status.HALTED), state.halted),
            ("clamped", found.clamped, state.clamped),
            ("inbox level", found.inbox_level, len(state.inbox)),
            ("outbox", found.outbox, [tuple(sent) for sent in state.outbox]),
        ):
            if tile != simulator:
                differences.append(f"{name}: tile {tile}, simulator {simulator}")
        registers = np.array(state.registers, np.int64).astype(np.uint32)
        differences += _differences("register", found.registers[:, None], registers[:, None])
        for window, words in found.windows.items():
            expected = state.export(window)
            differences += _differences(window.name.lower(), _canonical(config, window, words), expected)
        if differences:
            raise Mismatch("\n".join(["tile and simulator differ:", *differences]))


def _canonical(config: TileConfig, window: Window, words: np.ndarray) -> np.ndarray:
    """Words with one encoding for each value: of floats, all patterns of exponent 0 are zero."""
    if window not in _FLOATS:
        return words
    number = FloatFormat(config.significand_bits)
    return number.encode(number.decode(words))


def _differences(name: str, tile: np.ndarray, simulator: np.ndarray) -> list[str]:
    """A line for each of the first words that differ, and one for the rest."""
    where = np.argwhere(tile != simulator)
    lines = [
        f"{name}[{word}] beat {beat}: tile {tile[word, beat]:#010x}, simulator {simulator[word, beat]:#010x}"
        for word, beat in where[:_SHOWN].tolist()
    ]
    if len(where) > _SHOWN:
        lines.append(f"{name}: {len(where) - _SHOWN} more beats differ")
    return lines
