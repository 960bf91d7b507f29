"""The fixtures are what their recipe wrote, and what their page says."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.support.safetensors_oracle import reference_tensors

FIXTURES = Path(__file__).parent.parent / "fixtures"
MANIFEST = json.loads((FIXTURES / "manifest.json").read_text())
MOST_BYTES = 15_000_000


@pytest.mark.parametrize("name", MANIFEST)
def test_every_file_has_the_hash_of_its_recipe(name: str) -> None:
    content = (FIXTURES / name).read_bytes()
    assert len(content) == MANIFEST[name]["bytes"]
    assert hashlib.sha256(content).hexdigest() == MANIFEST[name]["sha256"]


def test_every_file_stands_in_the_manifest_and_on_the_page() -> None:
    kept = {
        str(file.relative_to(FIXTURES))
        for folder in ("babble", "digits", "run")
        for file in (FIXTURES / folder).rglob("*")
        if file.is_file()
    }
    assert kept == set(MANIFEST)
    page = (FIXTURES / "README.md").read_text()
    assert all(entry["sha256"] in page for entry in MANIFEST.values())


def test_the_fixtures_stay_small() -> None:
    assert sum(file.stat().st_size for file in FIXTURES.rglob("*") if file.is_file()) <= MOST_BYTES


@pytest.mark.parametrize("name", [name for name in MANIFEST if name.endswith(".safetensors")])
def test_the_library_reads_every_checkpoint(name: str) -> None:
    assert isinstance(reference_tensors((FIXTURES / name).read_bytes()), dict)
