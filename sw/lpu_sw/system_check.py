"""What the set-up needs of the system, checked before anything is downloaded.

The Makefile runs this file by its path under whatever Python the user has. So it imports the standard library alone
and keeps to what Python 3.6 can read: a newer form would answer with a traceback instead of the sentence.
"""

import importlib.util
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

__all__ = ["NEWEST_PYTHON", "OLDEST_PYTHON", "TOOLS", "missing"]

OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 14)

TOOLS = {
    "g++": "compiles the simulation",
    "make": "drives that compilation",
    "perl": "starts Verilator",
}
"""Programs that must be on PATH, each with what it does here; a Debian package of the same name brings it."""


def missing() -> "Iterator[str]":
    """Yield one line for each thing that is missing: what it is, what it is for, how to get it."""
    version = sys.version_info[:2]
    name = "{}.{}".format(*version)
    if not OLDEST_PYTHON <= version <= NEWEST_PYTHON:
        oldest, newest = "{}.{}".format(*OLDEST_PYTHON), "{}.{}".format(*NEWEST_PYTHON)
        yield f"Python {name} found, {oldest} to {newest} needed: name one, as in `make PYTHON=python{oldest}`"
    elif importlib.util.find_spec("ensurepip") is None:
        yield f"the venv module of Python {name} is missing (holds the installed tools): apt install python{name}-venv"
    elif not _has_shared_library():
        yield f"the shared library of Python {name} is missing (cocotb loads it): apt install libpython{name}"
    for tool, purpose in TOOLS.items():
        if shutil.which(tool) is None:
            yield f"{tool} is missing ({purpose}): apt install {tool}"


def _has_shared_library() -> bool:
    """Whether this Python exists as a library too: Debian packs it apart, and pyenv builds it only on demand."""
    names = {sysconfig.get_config_var("INSTSONAME"), sysconfig.get_config_var("LDLIBRARY")}
    folders = [sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("PYTHONFRAMEWORKPREFIX")]
    folders.append(str(Path(sys.base_exec_prefix) / "lib"))
    return any(
        (Path(folder) / name).exists() for folder in folders if folder for name in names if name and name[-2:] != ".a"
    )


if __name__ == "__main__":
    sys.exit("\n".join(missing()) or 0)
