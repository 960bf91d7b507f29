"""The branches and tags of a model, as the Hub lists them."""

import json

import pytest
from huggingface_hub import HfApi

from jaynes_audit.analyzers.checkpoints.hub.location import HubLocation, hub_location
from jaynes_audit.analyzers.checkpoints.hub.references import references
from jaynes_audit.analyzers.errors import CouldNotRead
from tests.analyzers.checkpoints.hub.clients import MODEL, client_of
from tests.analyzers.checkpoints.hub.fuzzes import FUZZES
from tests.support.fuzzing import survive
from tests.support.hub import LoopbackHub

COMMIT = "0123456789" * 4


def answered(hub: LoopbackHub, answer: object) -> list[str]:
    hub.commit(MODEL, {"config.json": b"{}"})
    hub.fault(path="/refs", status=200, body=json.dumps(answer).encode(), headers={"Content-Type": "application/json"})
    return [each.name for each in references(MODEL, client_of(hub))]


def row(name: object, commit: object = COMMIT) -> dict[str, object]:
    return {"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit}


def test_they_are_those_that_huggingface_hub_lists(hub: LoopbackHub) -> None:
    for step in (0, 1000, 2000):
        hub.commit(MODEL, {"config.json": f"{step}".encode()}, ref=f"step{step}")
    last = hub.commit(MODEL, {"config.json": b"{}"})
    hub.tag(MODEL, "v1.0", last)
    found = {each.name: each.commit for each in references(MODEL, client_of(hub))}
    listed = HfApi(endpoint=hub.endpoint).list_repo_refs(MODEL)
    assert found == {each.name: each.target_commit for each in (*listed.branches, *listed.tags)}
    assert set(found) == {"main", "step0", "step1000", "step2000", "v1.0"}


def test_a_model_that_is_not_there_is_a_sentence(hub: LoopbackHub) -> None:
    with pytest.raises(CouldNotRead, match="there is no public model 'org/model'"):
        references(MODEL, client_of(hub))


def test_a_branch_wins_over_a_tag_of_its_name(hub: LoopbackHub) -> None:
    hub.commit(MODEL, {"config.json": b"1"})
    hub.fault(
        path="/refs",
        status=200,
        body=json.dumps({"branches": [row("step1")], "tags": [row("step1", "f" * 40), row("step2")]}).encode(),
    )
    found = [(each.name, each.commit) for each in references(MODEL, client_of(hub))]
    assert found == [("step1", COMMIT), ("step2", COMMIT)]


def test_names_that_cannot_be_written_are_left_out(hub: LoopbackHub) -> None:
    names = ["step1", "a b", "", "..", "x\x00", "\ud800", "step2", "feature/step3", "-x", "a" * 5000]
    found = answered(hub, {"branches": [row(name) for name in names], "tags": []})
    assert found == ["step1", "step2", "feature/step3", "a" * 5000]
    for name in found:
        assert hub_location(str(HubLocation(repo=MODEL, revision=name))).revision == name


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        3,
        None,
        {"branches": []},
        {"branches": {}, "tags": 3},
        {"branches": [3], "tags": []},
        {"branches": [{"name": "x"}], "tags": []},
        {"branches": [row(3)], "tags": []},
        {"branches": [row("x", "short")], "tags": []},
        {"branches": "ab", "tags": []},
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(hub: LoopbackHub, answer: object) -> None:
    with pytest.raises(CouldNotRead, match="not what a Hub answers"):
        answered(hub, answer)


def test_a_damaged_answer_is_survived() -> None:
    ends, faults = survive(FUZZES["references"], inputs=2_000, seed=1)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 20
