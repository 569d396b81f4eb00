# amaranth: UnusedElaboratable=no
"""ECP5 primitives: the twins' timing, the bank that is composed of them, and the instances against what Yosys infers.

There is no vendor model of the cells here. The independent witness is Yosys: from a plain array it infers the same
cell, without output registers. Pins and settings of the two must agree in all else.
"""

import json
import random

import pytest
from amaranth import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from lpu_isa.config import SHAPES
from lpu_rtl.bank import Bank, BankPorts, EbrBank
from lpu_rtl.export import verilog_text
from lpu_rtl.mxm import Mxm
from lpu_rtl.primitives import EBR_BITS, Ebr, Multiplier18, Replica, TableRom, Technology, replicated
from lpu_rtl.vmem import VectorMemory
from lpu_rtl.wmem import WeightMemory
from lpu_tb.synth import area, netlist

LATENCY = 2


def simulate(component, testbench):
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


@pytest.mark.parametrize("is_signed", [True, False])
def test_multiplier_takes_two_cycles(is_signed):
    multiplier = Multiplier18(is_signed=is_signed)
    low, high = (-(1 << 17), (1 << 17) - 1) if is_signed else (0, (1 << 18) - 1)
    rng = random.Random(1)
    factors = [(a, b) for a in (low, high, 0, 1) for b in (low, high, 0, 1)]
    factors += [(rng.randint(low, high), rng.randint(low, high)) for _ in range(50)]

    async def testbench(ctx):
        for cycle in range(len(factors) + LATENCY):
            if cycle >= LATENCY:
                a, b = factors[cycle - LATENCY]
                assert ctx.get(multiplier.product) == a * b
            if cycle < len(factors):
                ctx.set(multiplier.a, factors[cycle][0])
                ctx.set(multiplier.b, factors[cycle][1])
            await ctx.tick()

    simulate(multiplier, testbench)


def test_table_rom_reads_both_ports_in_two_cycles():
    rng = random.Random(1)
    contents = [rng.getrandbits(18) for _ in range(1000)]
    rom = TableRom(contents)
    words = contents + [0] * 24
    addresses = [(rng.randrange(1024), rng.randrange(1024)) for _ in range(100)] + [(0, 1023), (999, 1000)]

    async def testbench(ctx):
        for cycle in range(len(addresses) + LATENCY):
            if cycle >= LATENCY:
                a, b = addresses[cycle - LATENCY]
                assert (ctx.get(rom.data_a), ctx.get(rom.data_b)) == (words[a], words[b])
            if cycle < len(addresses):
                ctx.set(rom.address_a, addresses[cycle][0])
                ctx.set(rom.address_b, addresses[cycle][1])
            await ctx.tick()

    simulate(rom, testbench)


@pytest.mark.parametrize(
    "make, depth, n_lanes, lane_bits",
    [
        (Bank, 2560, 3, 8),
        (EbrBank, 2560, 3, 8),  # a part of 2,048 words, one of 512
        (EbrBank, 512, 8, 26),  # lanes of three slices, which share block RAMs
        (EbrBank, 256, 4, 32),
        (EbrBank, 4096, 1, 12),  # two parts of 2,048
        (EbrBank, 1024, 2, 9),
    ],
)
def test_bank_keeps_what_each_lane_was_given(make, depth, n_lanes, lane_bits):
    bank = make(depth, n_lanes, lane_bits)
    rng = random.Random(1)
    words = sorted({0, depth - 1, depth // 2, 511, 512, 2047, 2048} & set(range(depth)))
    memory = {}

    async def testbench(ctx):
        due = {}
        for cycle in range(400):
            if (word := due.pop(cycle, None)) is not None:
                assert [ctx.get(bank.read_data[lane]) for lane in range(n_lanes)] == word
            filling = cycle < len(words)
            address = words[cycle] if filling else rng.choice(words)
            enable = (1 << n_lanes) - 1 if filling else rng.getrandbits(n_lanes)
            values = [rng.getrandbits(lane_bits) for _ in range(n_lanes)]
            ctx.set(bank.write_enable, enable)
            ctx.set(bank.write_address, address)
            for lane, value in enumerate(values):
                ctx.set(bank.write_data[lane], value)
            read, is_read = rng.choice(words), not filling and rng.random() < 0.8
            ctx.set(bank.read_enable, is_read)
            ctx.set(bank.read_address, read)
            if is_read:
                due[cycle + LATENCY] = memory[read]
            old = memory.get(address, values)
            memory[address] = [value if enable >> i & 1 else old[i] for i, value in enumerate(values)]
            await ctx.tick()

    simulate(bank, testbench)


@pytest.mark.parametrize(
    "make, text",
    [
        (lambda: Ebr(12), "width must be 9, 18 or 36, not 12"),
        (lambda: TableRom([0] * 1025), "contents must be at most 1024 words, not 1025"),
        (lambda: TableRom([1 << 18]), "contents must be words of 18 bits, not 262144"),
        (lambda: Replica(0), "width must be at least 1, not 0"),
        (lambda: BankPorts(0, 1, 8), "depth must be at least 1, not 0"),
        (lambda: BankPorts(4, 0, 8), "n_lanes must be at least 1, not 0"),
    ],
)
def test_mistakes_are_told(make, text):
    with pytest.raises(ValueError, match=text):
        make()


class PlainArray(wiring.Component):
    """An array with the ports of an `Ebr`, for Yosys to map, and without an output register.

    It waives what a read in the cycle of a write returns: Yosys does not trust the cell to return the old word, and
    would add logic for it.
    """

    def __init__(self, width, contents=()):
        self.contents = contents
        super().__init__(Ebr(width).signature)

    def elaborate(self, platform):
        m = Module()
        width, depth = len(self.write_data), 1 << len(self.write_address)
        attributes = {"no_rw_check": 1}
        array = memory.Memory(shape=width, depth=depth, init=self.contents, attrs=attributes)
        m.submodules.array = array
        write, read = array.write_port(granularity=9), array.read_port()
        m.d.comb += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.en.eq(self.read_enable),
            read.addr.eq(self.read_address),
            self.read_data.eq(read.data),
        ]
        return m


class Netlist:
    """A synthesised component, whose nets are named by port and bit where they are ports."""

    def __init__(self, component, name, folder):
        self.module = json.loads(netlist(component, name, folder).read_text())["modules"][name]
        self.names = {
            bit: (port, index)
            for port, declared in self.module["ports"].items()
            for index, bit in enumerate(declared["bits"])
        }

    def cells(self, kind):
        return [cell for cell in self.module["cells"].values() if cell["type"] == kind]

    def block_ram(self):
        """Parameters and pins of the one block RAM."""
        [cell] = self.cells("DP16KD")
        return cell["parameters"], self.pins(cell)

    def pins(self, cell):
        """What each pin is connected to: a bit of a port, a constant, or some other net."""
        known = self.names | {"0": "0", "1": "1"}
        return {pin: known.get(bits[0], ("net", bits[0])) for pin, bits in cell["connections"].items()}


@pytest.mark.parametrize("width", [9, 18, 36])
def test_ebr_is_wired_as_yosys_wires_an_array(width, tmp_path):
    ours, pins = Netlist(Ebr(width, Technology.ECP5), "ebr", tmp_path).block_ram()
    theirs, inferred = Netlist(PlainArray(width), "array", tmp_path).block_ram()
    assert (ours["REGMODE_A"], ours["REGMODE_B"]) == ("OUTREG", "OUTREG")
    assert (theirs["REGMODE_A"], theirs["REGMODE_B"]) == ("NOREG", "NOREG")
    settings = ["DATA_WIDTH_A", "DATA_WIDTH_B", "CLKAMUX", "CLKBMUX", "CSDECODE_A", "CSDECODE_B"]
    assert [ours[name] for name in settings] == [theirs[name] for name in settings]
    address_bits = (EBR_BITS // width - 1).bit_length()
    for port, bits in (("read_data", width), ("write_data", width), ("read_address", address_bits),
                       ("write_address", address_bits)):  # fmt: skip
        wanted = {pin: net for pin, net in inferred.items() if net[0] == port}
        assert {pin: net for pin, net in pins.items() if net[0] == port} == wanted
        assert sorted(net[1] for net in wanted.values()) == list(range(bits))
    if width > 9:
        byte_enables = [f"ADA{i}" for i in range(width // 9)]
        assert [pins[pin] for pin in byte_enables] == [("write_enable", i) for i in range(width // 9)]
        assert [pins[pin] for pin in byte_enables] == [inferred[pin] for pin in byte_enables]
    else:
        assert pins["WEA"] == inferred["WEA"] == ("write_enable", 0)
    assert pins["CEB"] == inferred["CEB"] == ("read_enable", 0)
    assert all(pins[pin] == "0" for pin in ("WEB", "RSTA", "RSTB")) and (pins["OCEA"], pins["OCEB"]) == ("1", "1")


def test_table_rom_has_the_contents_that_yosys_gives_an_array(tmp_path):
    contents = [random.Random(1).getrandbits(18) for _ in range(1024)]
    ours, pins = Netlist(TableRom(contents, Technology.ECP5), "rom", tmp_path).block_ram()
    theirs, _ = Netlist(PlainArray(18, contents), "array", tmp_path).block_ram()
    names = [f"INITVAL_{i:02X}" for i in range(64)]
    assert [int(ours[name], 2) for name in names] == [int(theirs[name], 2) for name in names]
    for port in "AB":
        assert (int(ours[f"DATA_WIDTH_{port}"], 2), ours[f"REGMODE_{port}"], pins[f"WE{port}"]) == (18, "OUTREG", "0")
        assert [pins[f"AD{port}{i}"] for i in range(4)] == ["0"] * 4
        assert [pins[f"AD{port}{4 + i}"] for i in range(10)] == [(f"address_{port.lower()}", i) for i in range(10)]
        assert [pins[f"DO{port}{i}"] for i in range(18)] == [(f"data_{port.lower()}", i) for i in range(18)]


@pytest.mark.parametrize("is_signed", [True, False])
def test_multiplier_is_one_dsp_with_its_registers(is_signed, tmp_path):
    made = Netlist(Multiplier18(is_signed=is_signed, technology=Technology.ECP5), "multiplier", tmp_path)
    [cell] = made.cells("MULT18X18D")
    assert not made.cells("TRELLIS_FF") and not made.cells("LUT4")
    clocked = {name for name, value in cell["parameters"].items() if name.endswith("_CLK") and value == "CLK0"}
    assert clocked == {"REG_INPUTA_CLK", "REG_INPUTB_CLK", "REG_OUTPUT_CLK"}
    pins = made.pins(cell)
    assert [pins[f"{f}{i}"] for f in "AB" for i in range(18)] == [(f, i) for f in "ab" for i in range(18)]
    assert [pins[f"P{i}"] for i in range(36)] == [("product", i) for i in range(36)]
    assert (pins["SIGNEDA"], pins["SIGNEDB"], pins["CLK0"]) == (str(int(is_signed)),) * 2 + (("clk", 0),)


@pytest.mark.parametrize(
    "shape, ebr, dsp", [("4x4", 4 + 2 * 3, 16), ("8x16", 160 + 2 * 6, 128), ("16x16", 256 + 2 * 12, 256)]
)
def test_memories_and_matrix_unit_have_the_block_rams_and_multipliers_that_were_counted(shape, ebr, dsp):
    config, technology = SHAPES[shape], Technology.ECP5
    units = [
        WeightMemory(config, technology),
        VectorMemory(config, config.vmem_words, 2, technology),
        Mxm(config, technology),
    ]
    texts = [verilog_text(unit, "unit") for unit in units]
    assert sum(text.count("  DP16KD #(") for text in texts) == ebr
    assert sum(text.count("  MULT18X18D #(") for text in texts) == dsp


class TwoReplicas(wiring.Component):
    """Two replicas of one input."""

    source: In(8)
    first: Out(8)
    second: Out(8)

    def __init__(self, technology):
        super().__init__()
        self.technology = technology

    def elaborate(self, platform):
        m = Module()
        for port in (self.first, self.second):
            m.d.comb += port.eq(replicated(m, port.name, self.source, self.technology))
        return m


@pytest.mark.parametrize(("technology", "registers"), [(Technology.ECP5, 16), (Technology.GENERIC, 8)])
def test_replicas_are_kept_where_plain_registers_are_merged(technology, registers, tmp_path):
    assert area(netlist(TwoReplicas(technology), "replicas", tmp_path), "replicas").ff == registers


def test_replica_takes_a_cycle():
    replicas = TwoReplicas(Technology.GENERIC)

    async def testbench(ctx):
        for value in (3, 200, 7):
            ctx.set(replicas.source, value)
            await ctx.tick()
            assert (ctx.get(replicas.first), ctx.get(replicas.second)) == (value, value)

    simulate(replicas, testbench)


def test_matrix_unit_infers_no_block_ram(tmp_path):
    config = SHAPES["4x4"]
    made = area(netlist(Mxm(config, Technology.ECP5), "mxm", tmp_path), "mxm")
    assert (made.ebr, made.dsp) == (0, config.multipliers)
    assert made.lut_ram
