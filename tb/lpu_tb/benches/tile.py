"""The whole tile through its host port: programs against the simulator."""

import cocotb

from lpu_sw.host.protocol import TileDevice
from lpu_sw.image import Image

from ..axi import bring_up
from ..runner import parameters
from ..scoreboard import Mismatch, Scoreboard


@cocotb.test(timeout_time=2, timeout_unit="sec")
async def programs(dut) -> None:
    """Run the images at ``images``, one after the other, ``repeats`` times, and compare the state after each."""
    given = parameters()
    images = {path: Image.load(path) for path in given["images"]}
    config = next(iter(images.values())).config
    scoreboard = Scoreboard(TileDevice(await bring_up(dut), config), given["seed"])
    await scoreboard.fill()
    for _ in range(given.get("repeats", 1)):
        for path, image in images.items():
            try:
                await scoreboard.run(image)
            except Mismatch as mismatch:
                raise AssertionError(f"{path}: {mismatch}") from None
