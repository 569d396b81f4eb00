"""One program and nothing else, for its waveform."""

import cocotb

from lpu_isa.host import Register, Status
from lpu_sw.host.protocol import TileDevice
from lpu_sw.image import Image

from ..fast_axi import FastTransport
from ..runner import parameters


@cocotb.test(timeout_time=100, timeout_unit="ms")
async def kernel(dut) -> None:
    """Load the image at ``image`` and run it with its own inbox until it halts."""
    image = Image.load(parameters()["image"])
    transport = FastTransport(dut)
    await transport.bring_up()
    device = TileDevice(transport, image.config)
    await device.load(image)
    await device.start(image.metadata.get("inbox", []))
    status = await device.finish()
    assert status & Status.HALTED, f"fault {await device.register(Register.FAULT)}"
