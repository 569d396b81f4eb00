"""The rooms of the project: who may import whom, what the package offers, and that the lock holds what it needs."""

import re
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRY_POINTS = [
    EntryPoint(name, value, group)
    for group, entries in [
        ("console_scripts", PYPROJECT["project"]["scripts"]),
        *PYPROJECT["project"]["entry-points"].items(),
    ]
    for name, value in entries.items()
]
LOCKED = re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


def test_rooms_look_downwards(capsys: pytest.CaptureFixture[str]) -> None:
    status = lint_imports(str(ROOT / "pyproject.toml"), no_cache=True, is_debug_mode=False)
    assert status == EXIT_STATUS_SUCCESS, capsys.readouterr().out


@pytest.mark.parametrize("package", PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
def test_every_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.parametrize("entry", ENTRY_POINTS, ids=lambda entry: f"{entry.group}-{entry.name}")
def test_every_entry_point_names_something_callable(entry: EntryPoint) -> None:
    assert callable(entry.load())


@pytest.mark.parametrize(
    "wanted", PYPROJECT["project"]["dependencies"] + PYPROJECT["dependency-groups"]["dev"], ids=str
)
def test_the_lock_holds_every_dependency_in_its_range(wanted: str) -> None:
    requirement = Requirement(wanted)
    versions = [version for name, version in LOCKED if name == canonicalize_name(requirement.name)]
    assert versions
    assert all(requirement.specifier.contains(version) for version in versions)


def test_the_lock_names_no_host() -> None:
    assert not re.findall(r"\w+://|--(?:index|extra-index|find-links)", (ROOT / "requirements.lock").read_text())
