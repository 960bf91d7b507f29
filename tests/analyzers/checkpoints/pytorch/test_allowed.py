"""What a user vouches for may be named by a pickle, just that and nothing near it; it is still never imported."""

import pytest

from jaynes_audit.analyzers.checkpoints.pytorch.allowed import allowing
from jaynes_audit.analyzers.errors import UsageError
from tests.support.pytorch_files import call, checkpoint, pickled, read, tensor


def rules(module: str = "nowhere.at_all", name: str = "Thing") -> list[str]:
    weights = read(checkpoint(pickled({"weight": tensor(), "extra": call(module, name)})))
    assert [each.name for each in weights.tensors] == ["weight"]
    return [defect.rule for defect in weights.defects]


def test_a_global_that_nobody_vouches_for_is_a_finding() -> None:
    assert rules() == ["JN020"]


def test_a_global_that_the_user_vouches_for_is_none() -> None:
    with allowing(["nowhere.at_all.Thing"]):
        assert rules() == []


@pytest.mark.parametrize(
    ("module", "name"), [("nowhere.at_all", "Things"), ("nowhere", "at_all.Thing"), ("nowhere.at_all.Thing", "sub")]
)
def test_nothing_near_it_is_vouched_for(module: str, name: str) -> None:
    with allowing(["nowhere.at_all.Thing"]):
        assert rules(module, name) == ["JN020"]


def test_it_holds_while_the_context_lasts() -> None:
    with allowing(["nowhere.at_all.Thing"]):
        pass
    assert rules() == ["JN020"]


@pytest.mark.parametrize("name", ["", "Thing", ".Thing", "nowhere."])
def test_a_name_without_module_is_misuse(name: str) -> None:
    with pytest.raises(UsageError, match="is no global"), allowing([name]):
        pass
