"""Every dtype and layout that torch can save is read bit for bit as torch sees it."""

import json
from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints.pytorch.distributed import read_distributed
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from tests.support.fuzzing import read_tensor
from tests.support.pytorch_files import read_file

FIXTURES = Path(__file__).parents[4] / "fixtures" / "pytorch"
EXPECTED = json.loads((FIXTURES / "expected.json").read_text())


def weights_at(path: Path) -> WeightFile:
    return read_distributed(path) if path.is_dir() else read_file(path)


@pytest.mark.parametrize("io", Io)
@pytest.mark.parametrize("name", EXPECTED)
def test_every_tensor_has_the_bytes_that_torch_sees(name: str, io: Io) -> None:
    weights = weights_at(FIXTURES / name)
    with Sources(io) as sources:
        found = {
            tensor.name: {
                "dtype": str(tensor.dtype),
                "shape": list(tensor.shape),
                "bytes": read_tensor(tensor, sources).hex(),
            }
            for tensor in weights.tensors
        }
    assert found == EXPECTED[name]["tensors"]


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_no_tensor_of_its_own_is_told_apart(name: str) -> None:
    weights = weights_at(FIXTURES / name)
    assert weights.aliases == EXPECTED[name].get("aliases", {})
    assert sorted(weights.undecoded) == sorted(EXPECTED[name].get("undecoded", []))
    assert [defect.case for defect in weights.defects] == EXPECTED[name].get("defects", [])
