"""The whole tile through its host port: programs against the simulator, faults, resets."""

import cocotb
import numpy as np
from cocotb.triggers import FallingEdge, RisingEdge

from lpu_isa.config import TileConfig
from lpu_isa.faults import Fault
from lpu_isa.host import Register, Status, Window
from lpu_sw.host.protocol import TileDevice
from lpu_sw.image import Image

from ..fast_axi import FastTransport
from ..runner import parameters
from ..scoreboard import Mismatch, Scoreboard


@cocotb.test(timeout_time=2, timeout_unit="sec")
async def programs(dut) -> None:
    """Run the images at ``images``, one after the other, ``repeats`` times, and compare the state after each.

    ``is_late``: the host gives each word of the inbox only when the tile waits for it.
    """
    given = parameters()
    images = {path: Image.load(path) for path in given["images"]}
    config = next(iter(images.values())).config
    scoreboard = await _scoreboard(dut, config, given["seed"])
    for _ in range(given.get("repeats", 1)):
        for path, image in images.items():
            try:
                await scoreboard.run(image, is_late=given.get("is_late", False))
            except Mismatch as mismatch:
                raise AssertionError(f"{path}: {mismatch}") from None


@cocotb.test(timeout_time=2, timeout_unit="sec")
async def faults(dut) -> None:
    """Each of ``faults`` stops the tile with its code; the image ``good`` then runs as it should, and leaves the
    memories as if the faulty program had only been loaded.

    A fault is an image, its code, and whether the simulator knows of it: then it must find it, in the same bundle.
    """
    given = parameters()
    good = Image.load(given["good"])
    scoreboard = await _scoreboard(dut, good.config, given["seed"])
    device = scoreboard.device
    for path, code, is_simulated in given["faults"]:
        image = Image.load(path)
        await scoreboard.load(image)
        predicted = scoreboard.predicted_fault(image) if is_simulated else None
        await device.start(image.metadata.get("inbox", []))
        status = await device.finish()
        found = Fault(await device.register(Register.FAULT))
        pc = await device.register(Register.FAULT_PC)
        assert status & Status.FAULTED and not status & Status.RUNNING, f"{path}: status {status}"
        assert found == code, f"{path}: fault {found.name}, expected {Fault(code).name}"
        assert predicted in (None, (found, pc)), f"{path}: {found.name} in bundle {pc}, simulator: {predicted}"
        assert np.array_equal(await device.read_window(Window.PROGRAM, 0, len(image.program)), image.program)
        await scoreboard.adopt()
        try:
            await scoreboard.run(good)
        except Mismatch as mismatch:
            raise AssertionError(f"after {path}: {mismatch}") from None


@cocotb.test(timeout_time=2, timeout_unit="sec")
async def resets(dut) -> None:
    """A RESET or STOP at any time in the run of ``image`` stops the tile, and ``image`` then runs as it should."""
    given = parameters()
    image = Image.load(given["image"])
    scoreboard = await _scoreboard(dut, image.config, given["seed"])
    device = scoreboard.device
    await scoreboard.load(image)
    for delay in range(given["delays"]):
        await _run_for(dut, device, image, delay)
        await (device.reset() if delay % 2 else device.stop())
        status = await device.register(Register.STATUS)
        assert not status & (Status.RUNNING | Status.FAULTED), f"status {status} after {delay} cycles"
        assert np.array_equal(await device.read_window(Window.PROGRAM, 0, len(image.program)), image.program)
        assert np.array_equal(await device.read_window(Window.WMEM), scoreboard.state.export(Window.WMEM)), (
            f"weights changed after {delay} cycles"
        )
    await scoreboard.fill()
    await scoreboard.run(image)


@cocotb.test(timeout_time=2, timeout_unit="sec")
async def reset_wins(dut) -> None:
    """A RESET in any cycle around the fault of each of ``images`` leaves no fault behind: a unit may raise it while the
    reset is on its way there."""
    given = parameters()
    images = [Image.load(path) for path in given["images"]]
    device = (await _scoreboard(dut, images[0].config, given["seed"])).device
    for path, image in zip(given["images"], images, strict=True):
        await device.load(image)
        for delay in range(given["delays"]):
            await _run_for(dut, device, image, delay)
            await device.reset()
            fault = Fault(await device.register(Register.FAULT))
            assert fault is Fault.NONE, f"{path}: {fault.name} after a reset {delay} cycles behind the start"


async def _run_for(dut, device: TileDevice, image: Image, cycles: int) -> None:
    """Start the loaded ``image`` and wait."""
    await device.start(image.metadata.get("inbox", []))
    for _ in range(cycles):
        await RisingEdge(dut.clk)
    await FallingEdge(dut.clk)


async def _scoreboard(dut, config: TileConfig, seed: int) -> Scoreboard:
    """The tile out of reset, its memories full of random words."""
    transport = FastTransport(dut)
    await transport.bring_up()
    scoreboard = Scoreboard(TileDevice(transport, config), seed)
    await scoreboard.fill()
    return scoreboard
