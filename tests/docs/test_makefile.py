"""What a newcomer meets first: the list of targets, and one clear line for each thing that the system lacks."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from lpu_sw import system_check

ROOT = Path(__file__).resolve().parents[2]
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None, reason="make is not installed")


def make(*arguments: str, folder: Path = ROOT, path: str = os.defpath) -> subprocess.CompletedProcess[str]:
    """Run make with nothing but PATH in its environment, so that a make around the tests cannot reach it."""
    assert MAKE is not None
    return subprocess.run(
        [MAKE, *arguments], cwd=folder, env={"PATH": path}, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What the set-up reads, in a folder of its own whose name has a space."""
    folder = tmp_path / "my tile"
    for name in ("Makefile", "pyproject.toml", "requirements.lock", "sw/lpu_sw/system_check.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def complaints(result: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on stderr that are not make's own closing words."""
    assert result.returncode != 0
    return [line for line in result.stderr.splitlines() if not line.startswith("make: ***")]


def test_plain_make_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    listed = dict(re.findall(r"^make (\S+) +(\S.*)$", make().stdout, re.MULTILINE))
    assert sorted(listed) == sorted(phony[1].split())


def test_sim_hands_the_prompt_over_as_one_word() -> None:
    result = make("sim", "SETUP=", "LPU=printf '<%s>\\n'", 'PROMPT=it\'s a "dog"; ls')
    assert '<--prompt>\n<it\'s a "dog"; ls>\n<--tokens>\n' in result.stdout


def test_rtl_takes_a_tile_with_changes() -> None:
    result = make("rtl", "SETUP=", "LPU=printf '<%s>\\n'", "TILE=8x16,wmem_words=3072")
    assert result.stdout.endswith("<--tile>\n<8x16,wmem_words=3072>\n")


@pytest.mark.parametrize("absent", system_check.TOOLS)
def test_a_missing_tool_is_named_in_one_line_before_anything_is_installed(absent: str, checkout: Path) -> None:
    programs = checkout.parent / "bin"
    programs.mkdir()
    for tool in system_check.TOOLS.keys() - {absent}:
        (programs / tool).symlink_to("/bin/true")
    result = make("setup", f"PYTHON={sys.executable}", folder=checkout, path=str(programs))
    assert complaints(result) == [f"{absent} is missing ({system_check.TOOLS[absent]}): apt install {absent}"]
    assert not (checkout / ".venv").exists()


def test_a_missing_python_is_named_in_one_line(checkout: Path) -> None:
    result = make("setup", "PYTHON=python9", folder=checkout)
    assert complaints(result) == ["python9 is missing: apt install python3 python3-venv"]


@pytest.mark.parametrize("version", [(3, 10), (3, 15)])
def test_another_python_is_told_the_range(version: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    (line,) = system_check.missing()
    assert line == f"Python 3.{version[1]} found, 3.11 to 3.14 needed: name one, as in `make PYTHON=python3.11`"


def test_the_range_is_that_of_the_package() -> None:
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    (major, oldest), (_, newest) = system_check.OLDEST_PYTHON, system_check.NEWEST_PYTHON
    assert required == f">={major}.{oldest},<{major}.{newest + 1}"


def test_a_python_without_venv_is_told_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (line,) = system_check.missing()
    assert line.endswith("apt install python{}.{}-venv".format(*sys.version_info[:2]))


def test_a_python_without_its_library_is_told_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    static = {"INSTSONAME": "libpython3.11.a", "LDLIBRARY": "libpython3.11.a", "LIBDIR": sys.base_prefix + "/lib"}
    monkeypatch.setattr(sysconfig, "get_config_var", static.get)
    (line,) = system_check.missing()
    assert line.endswith("apt install libpython{}.{}".format(*sys.version_info[:2]))
