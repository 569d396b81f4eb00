"""The operators that can be lowered, each by the rule of its file."""

from lpu_sw.graph.feed_forward import MaxPool
from lpu_sw.graph.integer import IntegerAdd, IntegerConv, IntegerSoftmax

from .add import lower_add
from .conv import lower_conv
from .max_pool import lower_max_pool
from .softmax import lower_softmax

__all__ = ["RULES"]

RULES = {
    IntegerAdd: lower_add,
    IntegerConv: lower_conv,
    IntegerSoftmax: lower_softmax,
    MaxPool: lower_max_pool,
}
