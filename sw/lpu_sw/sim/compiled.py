"""Compilation: the simulator's inner functions are Python that numba turns into machine code before the first call.

Never with fastmath: every operation on a float64 is the one that is written, so that results are exact to the bit.

Machine code is kept on disk, and is that of all the sources that it may hold something of: numba itself looks only at
the file of the function that it compiles, not at those of functions and constants that went into it.
"""

import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.extending import register_jitable

import lpu_isa

__all__ = ["compiled", "lanewise", "record"]

lanewise = register_jitable
"""A formula without a branch: compiled functions call it with numbers, others with arrays as well."""


def _folder() -> str:
    """Where machine code of these sources is kept; numba goes elsewhere if it may not write there."""
    here = Path(__file__).parent
    sources = sorted([*here.glob("*.py"), *Path(lpu_isa.__path__[0]).glob("*.py")])
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    return str(Path(numba.config.CACHE_DIR or here / "__pycache__") / digest[:16])  # type: ignore[attr-defined]


_FOLDER = _folder()


def compiled(function: Callable[..., Any]) -> Any:
    """A function in machine code, which is made at its first call."""
    default = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = _FOLDER  # type: ignore[attr-defined]
    try:
        return numba.njit(cache=True)(function)
    finally:
        numba.config.CACHE_DIR = default  # type: ignore[attr-defined]


def record(values: Mapping[str, int]) -> np.ndarray:
    """Integers as compiled functions take them: the one record of an array, which has the names as attributes."""
    names = tuple(sorted(values))
    return np.array([tuple(values[name] for name in names)], _record_type(names))


@cache
def _record_type(names: tuple[str, ...]) -> np.dtype:
    """Made once for the same names, since numba knows a type sooner if it is the same object."""
    return np.dtype([(name, np.int64) for name in names])
