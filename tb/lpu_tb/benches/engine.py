"""The simulator's half of the engine ``rtl``."""

import cocotb

from ..engine import serve
from ..fast_axi import FastTransport
from ..runner import parameters
from ..watch import Watch


@cocotb.test(timeout_time=100, timeout_unit="sec")
async def engine(dut) -> None:
    """Answer on ``socket`` until the parent hangs up."""
    transport = FastTransport(dut)
    await transport.bring_up()
    try:
        await serve(transport, parameters()["socket"], lambda: Watch(dut))
    except ConnectionError:
        cocotb.log.info("the parent hung up in the middle of a run")
