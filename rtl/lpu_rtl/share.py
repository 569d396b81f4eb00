"""One port of a memory for several users, of whom at most one uses it in a cycle."""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth import Module, Mux, Value
from amaranth.lib.wiring import In, Out, PureInterface

__all__ = ["share"]


def share(m: Module, port: PureInterface, users: Sequence[PureInterface]) -> Value:
    """Drive a memory's ``port`` with the user whose ``enable`` is set, or else the first one; all users see its data.

    ``port`` and ``users`` have one signature with a member ``enable``, seen from their initiators: the port takes what
    the users give. The first one's ``enable`` chooses nothing: it is the one that comes late in a cycle. Returns
    whether two users are enabled in this cycle, in which case the last of them has the port.
    """
    enabled = [user.enable.any() for user in users]
    for name, member in port.signature.members.items():
        if member.flow is In:  # seen from the memory
            given = [Value.cast(getattr(user, name)) for user in users]
            chosen = given[0]
            for on, other in zip(enabled[1:], given[1:], strict=True):
                chosen = Mux(on, other, chosen)
            m.d.comb += Value.cast(getattr(port, name)).eq(chosen)
        elif member.flow is Out:
            m.d.comb += [Value.cast(getattr(user, name)).eq(Value.cast(getattr(port, name))) for user in users]
    return reduce(or_, [a & b for i, a in enumerate(enabled) for b in enabled[:i]])
