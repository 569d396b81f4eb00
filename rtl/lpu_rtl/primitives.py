"""The ECP5 primitives that the tile is built on, each with a behavioural twin for simulation.

Yosys uses neither the output register of a block RAM nor the registers of a multiplier, so both are instantiated by
name. A component built for `Technology.GENERIC` is plain Amaranth instead, with the same ports and the same timing:
software and simulators see only the twin, and ``tests/rtl/test_primitives.py`` compares the wiring of each instance
with what Yosys infers from its twin.

Source of names and settings: Lattice FPGA-TN-02204 (memory) and FPGA-TN-02205 (sysDSP).
"""

from collections.abc import Sequence
from enum import Enum

from amaranth import ClockSignal, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

__all__ = [
    "EBR_BITS",
    "LUT_RAM",
    "SLICE_BITS",
    "Ebr",
    "Multiplier18",
    "Replica",
    "TableRom",
    "Technology",
    "replicated",
]

EBR_BITS = 18 * 1024
"""Bits of one block RAM."""
SLICE_BITS = 9
"""Bits of a block RAM that share a write enable."""
LUT_RAM = {"ram_style": "distributed"}
"""Attributes of a memory that Yosys must make from LUT RAM: not from block RAM, which is all needed elsewhere, nor from
registers, as it does with many read ports."""

_FACTOR_BITS = 18
_INIT_WORDS = 16  # words of 18 bits in one INITVAL parameter, 20 bits apart
_INIT_PITCH = 20


class Technology(Enum):
    """What a component is built from."""

    GENERIC = "generic"
    ECP5 = "ecp5"


def _bits(prefix: str, bits) -> dict:
    """Instance arguments that connect ``prefix0``, ``prefix1``, ... to the bits of a value, lowest first."""
    return {f"{prefix}{i}": bits[i] for i in range(len(bits))}


def _address(port: str, address, enables=()) -> dict:
    """The 14 address pins of a port: the word address at the top, byte enables from pin 0 for wide writes."""
    low = 14 - len(address)
    pins = [*enables, *[Const(0, 1)] * (low - len(enables)), *address]
    return {f"i_AD{port}{i}": pin for i, pin in enumerate(pins)}


def _port_settings(width: int) -> dict:
    """Parameters and constant pins that both block RAM components use."""
    settings: dict = {
        "p_RESETMODE": "SYNC",
        "p_ASYNC_RESET_RELEASE": "SYNC",
        "p_GSR": "DISABLED",
    }
    for port in "AB":
        settings |= {
            f"p_DATA_WIDTH_{port}": width,
            f"p_REGMODE_{port}": "OUTREG",
            f"p_CSDECODE_{port}": "0b000",
            f"p_WRITEMODE_{port}": "NORMAL",
            f"p_CLK{port}MUX": f"CLK{port}",
            f"i_CLK{port}": ClockSignal(),
            f"i_OCE{port}": Const(1, 1),
            f"i_RST{port}": Const(0, 1),
        }
        settings |= _bits(f"i_CS{port}", Const(0, 3))
    return settings


class Ebr(wiring.Component):
    """One block RAM: a write port, a read port with output register. Contents are undefined at the start.

    Parameters
    ----------
    width : int
        Bits of a word: 9, 18 or 36, for a depth of 2,048, 1,024 or 512 words.
    technology : Technology
        ``GENERIC`` or ``ECP5`` (one DP16KD).

    Ports
    -----
    write_enable : In(width / 9)    One bit for each 9 bits of ``write_data``.
    write_address, write_data       Seen by reads of later cycles.
    read_enable, read_address       Cycle c.
    read_data : Out(width)          Cycle c + 2, for that cycle only.

    A read in the cycle in which its word is written returns the old word here; on the chip that is so within one
    clock domain as far as is known, see ``docs/fpga.md``.

    Raises ``ValueError`` for another width.
    """

    def __init__(self, width: int, technology: Technology = Technology.GENERIC) -> None:
        if width not in (9, 18, 36):
            raise ValueError(f"width must be 9, 18 or 36, not {width!r}")
        self.width = width
        self.depth = EBR_BITS // width
        self.technology = technology
        address_bits = exact_log2(self.depth)
        super().__init__({
            "write_enable": In(width // SLICE_BITS),
            "write_address": In(address_bits),
            "write_data": In(width),
            "read_enable": In(1),
            "read_address": In(address_bits),
            "read_data": Out(width),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        if self.technology is Technology.ECP5:
            self._instantiate(m)
        else:
            m.submodules.array = array = memory.Memory(shape=self.width, depth=self.depth, init=[])
            write, read = array.write_port(granularity=SLICE_BITS), array.read_port()
            m.d.comb += [
                write.en.eq(self.write_enable),
                write.addr.eq(self.write_address),
                write.data.eq(self.write_data),
                read.en.eq(self.read_enable),
                read.addr.eq(self.read_address),
            ]
            data = Signal(self.width, reset_less=True)
            m.d.sync += data.eq(read.data)
            m.d.comb += self.read_data.eq(data)
        return m

    def _instantiate(self, m: Module) -> None:
        arguments = _port_settings(self.width)
        write, read = self.write_data, self.read_data
        # A word of 36 bits takes the data pins of both ports, a narrower one those of its own port.
        if self.width == 36:
            arguments |= _bits("i_DIA", write[:18]) | _bits("i_DIB", write[18:])
            arguments |= _bits("o_DOA", read[:18]) | _bits("o_DOB", read[18:])
        else:
            arguments |= _bits("i_DIA", write) | _bits("o_DOB", read)
        enables = list(self.write_enable) if self.width > SLICE_BITS else []
        m.submodules.ebr = Instance(
            "DP16KD",
            **arguments,
            **_address("A", self.write_address, enables),
            **_address("B", self.read_address),
            i_CEA=Const(1, 1),
            i_WEA=self.write_enable.any(),
            i_CEB=self.read_enable,
            i_WEB=Const(0, 1),
        )


class TableRom(wiring.Component):
    """Read-only memory of 1,024 words of 18 bits with two ports, each with an output register.

    Parameters
    ----------
    contents : sequence of int
        At most 1,024 words; the rest is zero.
    technology : Technology
        ``GENERIC`` or ``ECP5`` (one DP16KD).

    Ports
    -----
    address_a, address_b : In(10)   Cycle c.
    data_a, data_b : Out(18)        Cycle c + 2.

    Raises ``ValueError`` for too many words or a word of more than 18 bits.
    """

    WIDTH = 18
    DEPTH = EBR_BITS // WIDTH

    def __init__(self, contents: Sequence[int], technology: Technology = Technology.GENERIC) -> None:
        words = [int(word) for word in contents]
        if len(words) > self.DEPTH:
            raise ValueError(f"contents must be at most {self.DEPTH} words, not {len(words)}")
        for word in words:
            if not 0 <= word < 1 << self.WIDTH:
                raise ValueError(f"contents must be words of {self.WIDTH} bits, not {word}")
        self.contents = words + [0] * (self.DEPTH - len(words))
        self.technology = technology
        address_bits = exact_log2(self.DEPTH)
        super().__init__({
            "address_a": In(address_bits),
            "data_a": Out(self.WIDTH),
            "address_b": In(address_bits),
            "data_b": Out(self.WIDTH),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        if self.technology is Technology.ECP5:
            self._instantiate(m)
        else:
            m.submodules.array = array = memory.Memory(shape=self.WIDTH, depth=self.DEPTH, init=self.contents)
            for address, data in ((self.address_a, self.data_a), (self.address_b, self.data_b)):
                read = array.read_port()
                data_q = Signal(self.WIDTH, reset_less=True)
                m.d.sync += data_q.eq(read.data)
                m.d.comb += [read.addr.eq(address), data.eq(data_q)]
        return m

    def _instantiate(self, m: Module) -> None:
        arguments = _port_settings(self.WIDTH)
        for port, address, data in (("A", self.address_a, self.data_a), ("B", self.address_b, self.data_b)):
            arguments |= _address(port, address) | _bits(f"o_DO{port}", data)
            arguments |= _bits(f"i_DI{port}", Const(0, self.WIDTH))
            arguments |= {f"i_CE{port}": Const(1, 1), f"i_WE{port}": Const(0, 1)}
        for index, first in enumerate(range(0, self.DEPTH, _INIT_WORDS)):
            words = self.contents[first : first + _INIT_WORDS]
            packed = sum(word << (_INIT_PITCH * i) for i, word in enumerate(words))
            arguments[f"p_INITVAL_{index:02X}"] = Const(packed, _INIT_PITCH * _INIT_WORDS)
        m.submodules.ebr = Instance("DP16KD", **arguments)


class Multiplier18(wiring.Component):
    """18 x 18 bit multiplier with input and output registers.

    Parameters
    ----------
    is_signed : bool
        Whether both factors are two's complement.
    technology : Technology
        ``GENERIC`` or ``ECP5`` (one MULT18X18D).

    Ports
    -----
    a, b : In(18)           Cycle c.
    product : Out(36)       Cycle c + 2; signed when the factors are.
    """

    def __init__(self, *, is_signed: bool, technology: Technology = Technology.GENERIC) -> None:
        self.is_signed = is_signed
        self.technology = technology
        factor, product = _FACTOR_BITS, 2 * _FACTOR_BITS
        super().__init__({
            "a": In(signed(factor) if is_signed else factor),
            "b": In(signed(factor) if is_signed else factor),
            "product": Out(signed(product) if is_signed else product),
        })  # fmt: skip

    def elaborate(self, platform) -> Module:
        m = Module()
        if self.technology is Technology.ECP5:
            self._instantiate(m)
        else:
            a = Signal.like(self.a, reset_less=True)
            b = Signal.like(self.b, reset_less=True)
            product = Signal.like(self.product, reset_less=True)
            m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b)]
            m.d.comb += self.product.eq(product)
        return m

    def _instantiate(self, m: Module) -> None:
        clocked = {f"p_REG_{stage}_CLK": "CLK0" for stage in ("INPUTA", "INPUTB", "OUTPUT")}
        unclocked = {f"p_REG_{stage}_CLK": "NONE" for stage in ("INPUTC", "PIPELINE")}
        clocks = _bits("i_CLK", [ClockSignal(), Const(0, 1), Const(0, 1), Const(0, 1)])
        m.submodules.multiplier = Instance(
            "MULT18X18D",
            **clocked,
            **unclocked,
            **clocks,
            **_bits("i_CE", Const(0b1111, 4)),
            **_bits("i_RST", Const(0, 4)),
            p_SOURCEB_MODE="B_SHIFT",
            p_MULT_BYPASS="DISABLED",
            p_CAS_MATCH_REG="FALSE",
            p_RESETMODE="SYNC",
            p_GSR="DISABLED",
            **_bits("i_A", self.a),
            **_bits("i_B", self.b),
            **_bits("i_C", Const(0, _FACTOR_BITS)),
            i_SIGNEDA=Const(self.is_signed, 1),
            i_SIGNEDB=Const(self.is_signed, 1),
            i_SOURCEA=Const(0, 1),
            i_SOURCEB=Const(0, 1),
            **_bits("o_P", self.product),
        )


class Replica(wiring.Component):
    """A register that synthesis keeps although others hold the same value.

    A signal that goes to all of the chip takes two cycles of an ECP5: from its source to a replica in each region, and
    from there on. Plain registers with one input would be merged into one.

    Parameters
    ----------
    width : int
        Bits, at least 1.
    technology : Technology
        ``GENERIC`` or ``ECP5`` (a TRELLIS_FF a bit).

    Ports
    -----
    source : In(width)      Cycle c.
    copy : Out(width)       Cycle c + 1. Undefined after a reset.
    """

    def __init__(self, width: int, technology: Technology = Technology.GENERIC) -> None:
        if width < 1:
            raise ValueError(f"width must be at least 1, not {width!r}")
        self.width = width
        self.technology = technology
        super().__init__({"source": In(width), "copy": Out(width)})

    def elaborate(self, platform) -> Module:
        m = Module()
        if self.technology is Technology.ECP5:
            for bit in range(self.width):
                m.submodules[f"bit{bit}"] = Instance(
                    "TRELLIS_FF",
                    p_GSR="DISABLED",
                    p_CEMUX="1",
                    p_CLKMUX="CLK",
                    p_LSRMUX="LSR",
                    p_SRMODE="LSR_OVER_CE",
                    p_REGSET="RESET",
                    i_CLK=ClockSignal(),
                    i_CE=Const(1, 1),
                    i_LSR=Const(0, 1),
                    i_DI=self.source[bit],
                    o_Q=self.copy[bit],
                )
        else:
            copy = Signal(self.width, reset_less=True)
            m.d.sync += copy.eq(self.source)
            m.d.comb += self.copy.eq(copy)
        return m


def replicated(m: Module, name: str, value: Value, technology: Technology) -> Value:
    """What ``value`` was a cycle ago, in a `Replica` of its own, which becomes the submodule ``name``."""
    m.submodules[name] = replica = Replica(len(value), technology)
    m.d.comb += replica.source.eq(value)
    return replica.copy
