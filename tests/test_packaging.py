"""The package holds all of its parts, and says the same of itself everywhere."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]


def folder_of(package: str) -> Path:
    """The folder that a package is made from, by the longest entry of package-dir that leads to it."""
    parts = package.split(".")
    for cut in range(len(parts), 0, -1):
        mapped = SETUPTOOLS["package-dir"].get(".".join(parts[:cut]))
        if mapped:
            return ROOT.joinpath(mapped, *parts[cut:])
    raise AssertionError(package)


def folders_with_code() -> set[Path]:
    return {
        init.parent
        for top in ("cli", "analyzers")
        for init in (ROOT / top).rglob("__init__.py")
        if "__pycache__" not in init.parts
    }


def test_no_sub_package_is_forgotten() -> None:
    assert {folder_of(package) for package in SETUPTOOLS["packages"]} == folders_with_code()


def test_the_dependency_group_is_the_extra() -> None:
    assert PYPROJECT["dependency-groups"]["test"] == ["jaynes-audit[test]"]


def test_torch_is_no_dependency_of_the_product_or_its_tests() -> None:
    project = PYPROJECT["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    assert not [each for each in needed if each.startswith(("torch", "transformers"))]


@pytest.mark.parametrize("folder", ["cli", "analyzers"])
def test_nothing_is_imported_by_the_name_of_its_folder(folder: str) -> None:
    for module in (ROOT / folder).rglob("*.py"):
        assert f"from {folder}" not in module.read_text(), module


def test_typed_code_says_so() -> None:
    assert (ROOT / "cli/package_root/py.typed").exists()
