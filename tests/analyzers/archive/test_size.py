"""How small a sketch archive is: the figures of docs/archive.md."""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.anatomy import Anatomy
from jaynes_audit.analyzers.archive.archive import open_archive
from jaynes_audit.analyzers.archive.audited import audit_archive
from jaynes_audit.analyzers.archive.saving import Keeper
from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.dtypes import Dtype
from tests.support.checkpoints import checkpoint, stored

DOCUMENT = (Path(__file__).parents[3] / "docs" / "archive.md").read_text()
BF16_BYTES = 2
DRAWN = 0.02  # other weights of one law take another percent or so


def archive_bytes(folder: Path, dtype: Dtype, *matrices: npt.NDArray[np.floating]) -> int:
    named = {f"model.layers.{number}.mlp.up_proj.weight": stored(each, dtype) for number, each in enumerate(matrices)}
    model = checkpoint(folder, named)
    keeper = Keeper()
    audit_checkpoint(model, on_measured=keeper.measured, on_outcome=keeper.outcome)
    return len(keeper.archive(model))


def drawn(law: str, side: int) -> npt.NDArray[np.floating]:
    rng = np.random.default_rng(side)
    match law:
        case "Gaussian":
            return 0.02 * rng.standard_normal((side, side))
        case "Student t":
            return 0.02 * rng.standard_t(4, (side, side))
        case _:
            return 0.02 * rng.lognormal(0, 1.3, (side, side)) * rng.choice([-1, 1], (side, side))


@pytest.mark.parametrize("side", [1024, 2048])
@pytest.mark.parametrize(
    ("law", "dtype"),
    [
        ("Gaussian", Dtype.BF16),
        ("Student t", Dtype.BF16),
        ("lognormal", Dtype.BF16),
        ("Gaussian", Dtype.F32),
        ("Gaussian", Dtype.F16),
    ],
)
def test_the_size_is_the_documented_one(tmp_path: Path, law: str, dtype: Dtype, side: int) -> None:
    [figures] = re.findall(rf"^\| {law} weights.* in {dtype}.*? \| (.*) \|$", DOCUMENT, re.MULTILINE)
    documented = int(figures.split(" | ")[side // 2048].split()[0].replace(",", ""))
    size = archive_bytes(tmp_path, dtype, drawn(law, side))
    assert size == pytest.approx(documented, rel=DRAWN)
    if dtype is Dtype.BF16:
        assert size <= side * side * BF16_BYTES / 500


@pytest.mark.parametrize(("side", "is_kept"), [(512, True), (1024, False), (1300, True)])
def test_an_anatomy_is_kept_where_the_archive_stays_small(tmp_path: Path, side: int, is_kept: bool) -> None:  # noqa: FBT001
    name = "model.layers.0.mlp.up_proj.weight"
    model = checkpoint(tmp_path, {name: stored(drawn("lognormal", side), Dtype.BF16)})
    keeper = Keeper()
    of_weights = audit_checkpoint(model, on_measured=keeper.measured, on_outcome=keeper.outcome)
    path = tmp_path / "model.sketches.safetensors"
    path.write_bytes(keeper.archive(model))
    [layer], [original] = audit_archive(open_archive(path)).layers, of_weights.layers
    assert isinstance(original.evidence.anatomy, Anatomy)
    assert isinstance(layer.evidence.anatomy, Anatomy) is is_kept
    assert layer.counts == original.counts


def test_many_small_matrices_take_the_documented_part_of_their_own_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    matrices = [0.02 * rng.standard_normal((64, 64)) for _ in range(300)]
    assert archive_bytes(tmp_path, Dtype.BF16, *matrices) <= sum(each.size for each in matrices) * BF16_BYTES * 0.13
