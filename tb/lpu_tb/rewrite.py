"""Verilog as a simulator is given it: the design's own text, with what costs the simulator time said in another way."""

import re

__all__ = ["with_clocked_resets", "with_running_clock", "without_register_starts"]

_START = re.compile(r"^(  reg (?:\[[^]]*\] )?\S+ ) ?= \d+'h[0-9a-f]+;$", re.MULTILINE)
_MODULE_END = re.compile(r"(?<=^endmodule\n)", re.MULTILINE)
_RESET = re.compile(r"^    if \((\w*rst)\) begin\n      (\S+) +=\s(\S+);\n    end\n(?=  end\n)", re.MULTILINE)
_REGISTER = re.compile(r"^  always @\(posedge (\w*clk)\)\n    (\S+) +<= (\S+) ;\n", re.MULTILINE)


def without_register_starts(text: str) -> str:
    """Verilog whose registers have no value until they are reset or loaded, so that the simulator draws one."""
    return _START.sub(r"\1;", text)


def with_clocked_resets(text: str) -> str:
    """Verilog that means the same and tests its resets where a register takes its value.

    Amaranth tests it in the combinational block of the value that comes next. A simulator then works out all of them
    whenever an input of the design changes, its clock included: a sixth of its time.
    """
    return "".join(map(_with_clocked_resets, _MODULE_END.split(text)))


def _with_clocked_resets(module: str) -> str:
    """`with_clocked_resets` of one module: names are its own."""
    taken = {following for *_, following in _REGISTER.findall(module)}
    values: dict[str, tuple[str, str]] = {}

    def move(reset: re.Match[str]) -> str:
        signal, following, value = reset.groups()
        if following not in taken:
            return reset[0]
        values[following] = signal, value
        return ""

    def register(found: re.Match[str]) -> str:
        clock, name, following = found.groups()
        if following not in values:
            return found[0]
        signal, value = values[following]
        reset = f"    if ({signal}) {name} <= {value};\n    else "
        return f"  always @(posedge {clock})\n{reset}{name} <= {following} ;\n"

    return _REGISTER.sub(register, _RESET.sub(move, module))


def with_running_clock(text: str, toplevel: str, period_ns: int) -> str:
    """Verilog whose module ``toplevel`` makes its clock, ``clk``, by itself; it starts low and is an output now."""
    head, start, module = text.partition(f"\nmodule {toplevel}(")
    clock = f"  output clk;\n  reg clk = 1'h0;\n  always #{period_ns / 2:g} clk = ~clk;\n"
    return head + start + module.replace("  input clk;\n  wire clk;\n", clock, 1)
