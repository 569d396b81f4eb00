"""How each operator becomes steps: a file a rule. Importing this package makes all of them known."""

from . import (
    add,
    argmax,
    attention,
    cache_append,
    embedding,
    linear,
    multiply,
    quantise_blocks,
    reciprocal_root,
    rotary,
    rotary_angles,
    silu_gate,
    sum_of_squares,
    top_experts,
)
from .rule import rule_of

__all__ = [
    "add",
    "argmax",
    "attention",
    "cache_append",
    "embedding",
    "linear",
    "multiply",
    "quantise_blocks",
    "reciprocal_root",
    "rotary",
    "rotary_angles",
    "silu_gate",
    "sum_of_squares",
    "top_experts",
    "rule_of",
]
