"""What all operators of a graph have in common: attributes, a name, and a rule for the types of their outputs."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, ClassVar

from .tensor import ElementType, GraphError, Shape, Tensor, TensorType, format_shape

__all__ = ["Operator", "expect_shape"]


@dataclass(frozen=True)
class Operator(ABC):
    """A kind of operation with its attributes; a frozen dataclass for each.

    inputs : names of its inputs, in order. optional : how many of the last of them may be left out.
    elements : what an input may hold, where that is not float32.
    """

    inputs: ClassVar[tuple[str, ...]]
    optional: ClassVar[int] = 0
    elements: ClassVar[Mapping[str, tuple[ElementType, ...]]] = {}

    @classmethod
    @cache
    def mnemonic(cls) -> str:
        """Its name in printed graphs: ``rms_norm`` for ``RmsNorm``."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    @abstractmethod
    def _infer(self, *inputs: Any, **more: Any) -> tuple[TensorType, ...]:
        """Types of the outputs; each operator names its inputs instead of ``inputs`` and ``more``."""

    def outputs(self, given: Sequence[Tensor]) -> tuple[TensorType, ...]:
        """Types of the outputs for these inputs.

        Raises GraphError naming the input, what was found and what was expected.
        """
        least, most = len(self.inputs) - self.optional, len(self.inputs)
        if not least <= len(given) <= most:
            expected = f"{least}" if least == most else f"{least} to {most}"
            raise GraphError(f"found {len(given)} inputs, expected {expected}: {', '.join(self.inputs)}")
        for name, tensor in zip(self.inputs, given, strict=False):
            accepted = self.elements.get(name, (ElementType.FLOAT,))
            if tensor.element not in accepted:
                wanted = " or ".join(element.value for element in accepted)
                raise GraphError(f"input {name} ({tensor.name}) holds {tensor.element.value}, expected {wanted}")
        return self._infer(*given)

    def attributes(self) -> str:
        """Attributes as printed: ``epsilon=1e-05``; empty when there are none."""
        shown = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ", ".join(f"{name}={list(value) if isinstance(value, tuple) else value}" for name, value in shown)


def expect_shape(name: str, tensor: Tensor, *expected: Shape) -> None:
    """Raise GraphError unless a tensor, the input called ``name``, has one of these shapes."""
    if tensor.shape not in expected:
        wanted = " or ".join(map(format_shape, expected))
        raise GraphError(f"input {name} ({tensor.name}) has shape {format_shape(tensor.shape)}, expected {wanted}")
