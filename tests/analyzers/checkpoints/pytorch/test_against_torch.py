"""Files that the installed torch has just written, compared with what it wrote. Skipped where there is none."""

import sys
from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from tests.support.fuzzing import read_tensor
from tests.support.pytorch_files import FIXTURES, read_file

torch = pytest.importorskip("torch", reason="the files in fixtures/pytorch stand in for it")


@pytest.mark.filterwarnings("ignore")  # torch warns of what is in beta or deprecated, and its files are neither
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", ["dtypes", "views", "quantised", "sparse", "nested"])
def test_freshly_saved_tensors_have_the_bytes_that_torch_saw(kind: str, *, zipped: bool, tmp_path: Path, monkeypatch):
    monkeypatch.syspath_prepend(str(FIXTURES))
    import make_pytorch  # noqa: PLC0415 - it needs torch

    path = tmp_path / "fresh.pt"
    tensors = getattr(make_pytorch, kind)()
    # What it wrote, not what it loads: torch 2.13 cannot load all that it writes in the legacy format.
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    weights = read_file(path)
    with Sources(Io.MMAP) as sources:
        found = {
            each.name: {"dtype": str(each.dtype), "shape": list(each.shape), "bytes": read_tensor(each, sources).hex()}
            for each in weights.tensors
        }
    assert found == {name: make_pytorch.described(tensor) for name, tensor in tensors.items()}
    sys.modules.pop("make_pytorch")
