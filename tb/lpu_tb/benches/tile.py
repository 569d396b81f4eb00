"""The whole tile through its host port: programs against the simulator, faults, resets."""

import cocotb
import numpy as np

from lpu_isa.faults import Fault
from lpu_isa.host import Register, Status, Window
from lpu_sw.host.protocol import TileDevice
from lpu_sw.image import Image

from ..axi import bring_up
from ..runner import parameters
from ..scoreboard import Mismatch, Scoreboard

_KEPT = (Window.PROGRAM, Window.TIMING, Window.WMEM, Window.VMEM, Window.SMEM)


@cocotb.test(timeout_time=2, timeout_unit="sec")
async def programs(dut) -> None:
    """Run the images at ``images``, one after the other, ``repeats`` times, and compare the state after each.

    ``is_late``: the host gives each word of the inbox only when the tile waits for it.
    """
    given = parameters()
    images = {path: Image.load(path) for path in given["images"]}
    config = next(iter(images.values())).config
    scoreboard = Scoreboard(TileDevice(await bring_up(dut), config), given["seed"])
    await scoreboard.fill()
    for _ in range(given.get("repeats", 1)):
        for path, image in images.items():
            try:
                await scoreboard.run(image, is_late=given.get("is_late", False))
            except Mismatch as mismatch:
                raise AssertionError(f"{path}: {mismatch}") from None


@cocotb.test(timeout_time=2, timeout_unit="sec")
async def faults(dut) -> None:
    """Each of ``faults`` (pairs of image and code) stops the tile with its code and leaves the memories alone, and
    the image ``good`` then runs as it should."""
    given = parameters()
    good = Image.load(given["good"])
    device = TileDevice(await bring_up(dut), good.config)
    scoreboard = Scoreboard(device, given["seed"])
    await scoreboard.fill()
    for path, code in given["faults"]:
        image = Image.load(path)
        await device.load(image)
        before = {window: await device.read_window(window) for window in _KEPT}
        await device.start(image.metadata.get("inbox", []))
        status = await device.finish()
        found = Fault(await device.register(Register.FAULT))
        assert status & Status.FAULTED and not status & Status.RUNNING, f"{path}: status {status}"
        assert found == code, f"{path}: fault {found.name}, expected {Fault(code).name}"
        for window, words in before.items():
            assert np.array_equal(await device.read_window(window), words), f"{path}: {window.name} has changed"
        await scoreboard.fill()
        await scoreboard.run(good)


@cocotb.test(timeout_time=2, timeout_unit="sec")
async def resets(dut) -> None:
    """A RESET or STOP at any time in the run of ``image`` keeps the memories, and ``image`` then runs as it should."""
    given = parameters()
    image = Image.load(given["image"])
    device = TileDevice(await bring_up(dut), image.config)
    scoreboard = Scoreboard(device, given["seed"])
    await scoreboard.fill()
    await device.load(image)
    for delay in range(given["delays"]):
        await device.start(image.metadata.get("inbox", []))
        for _ in range(delay):
            await device.register(Register.STATUS)  # some cycles each
        await (device.reset() if delay % 2 else device.stop())
        status = await device.register(Register.STATUS)
        assert not status & (Status.RUNNING | Status.FAULTED), f"status {status} after {delay} accesses"
        program = await device.read_window(Window.PROGRAM, 0, len(image.program))
        assert np.array_equal(program, image.program)
    await scoreboard.fill()
    await scoreboard.run(image)
