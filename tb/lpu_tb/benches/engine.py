"""The simulator's half of the engine ``rtl``."""

import cocotb

from lpu_sw.host.protocol import TileDevice
from lpu_sw.image import Image

from ..engine import serve
from ..fast_axi import FastTransport
from ..runner import parameters
from ..watch import Watch


@cocotb.test(timeout_time=100, timeout_unit="sec")
async def engine(dut) -> None:
    """Load the image at ``image`` and answer on ``socket`` until the parent hangs up, watching if ``is_watched``."""
    given = parameters()
    image = Image.load(given["image"])
    transport = FastTransport(dut)
    await transport.bring_up()
    device = TileDevice(transport, image.config)
    try:
        await serve(device, image, given["socket"], (lambda: Watch(dut)) if given["is_watched"] else None)
    except BrokenPipeError:
        cocotb.log.info("the parent hung up in the middle of a run")
