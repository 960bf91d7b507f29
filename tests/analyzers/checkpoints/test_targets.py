"""What the user types, and the checkpoints it means."""

from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints import expand
from jaynes_audit.analyzers.checkpoints.locations import is_on_hub
from jaynes_audit.analyzers.errors import CouldNotRead, NothingToAudit, UsageError
from tests.support.safetensors_files import tensors, write, write_sharded


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_path_that_exists_stands_for_itself() -> None:
    write(Path("export/model.safetensors"), tensors("a"))
    assert expand(["export", "export/model.safetensors"]) == ["export", "export/model.safetensors"]


def test_a_path_that_exists_is_no_pattern() -> None:
    write(Path("model[1].safetensors"), tensors("a"))
    write(Path("model1.safetensors"), tensors("a"))
    assert expand(["model[1].safetensors"]) == ["model[1].safetensors"]


def test_the_matches_of_a_pattern_are_sorted_and_each_is_given_once() -> None:
    for name in ("b", "a", "c"):
        write(Path(f"export/{name}.safetensors"), tensors("t"))
    expected = ["export/b.safetensors", "export/a.safetensors", "export/c.safetensors"]
    assert expand(["export/b.safetensors", "export/*.safetensors", "./export/"]) == [*expected, "export"]


def test_a_pattern_may_match_folders() -> None:
    for name in ("two", "one"):
        write(Path(f"runs/{name}/model.safetensors"), tensors("t"))
    assert expand(["runs/*/"]) == ["runs/one", "runs/two"]


def test_a_pattern_may_reach_any_depth() -> None:
    write(Path("runs/a/b/model.safetensors"), tensors("t"))
    assert expand(["**/*.safetensors"]) == ["runs/a/b/model.safetensors"]


def test_a_pattern_passes_over_files_that_are_no_weights() -> None:
    write(Path("export/model.safetensors"), tensors("a"))
    write(Path("export/config.json"), {})
    write(Path("export/pytorch_model.bin"), b"PK\x03\x04")
    assert expand(["export/*"]) == ["export/model.safetensors", "export/pytorch_model.bin"]


def test_shards_with_an_index_are_one_checkpoint() -> None:
    write_sharded(Path("export"), [["a"], ["b"]])
    index = "export/model.safetensors.index.json"
    assert expand(["export/*.safetensors"]) == [index]
    assert expand(["export/model-00001-of-00002.safetensors", "export/model-00002-of-00002.safetensors"]) == [index]


def test_shards_without_an_index_are_one_checkpoint() -> None:
    write_sharded(Path("export"), [["a"], ["b"]], index=False)
    write(Path("export/other.safetensors"), tensors("c"))
    assert expand(["export/*.safetensors"]) == ["export/model-00001-of-00002.safetensors", "export/other.safetensors"]


def test_a_pattern_without_a_match_is_nothing_to_audit() -> None:
    with pytest.raises(NothingToAudit, match=r"the pattern 'export/\*' matches nothing"):
        expand(["export/*"])


def test_a_pattern_that_matches_only_other_files_is_nothing_to_audit() -> None:
    write(Path("export/config.json"), {})
    with pytest.raises(NothingToAudit, match="matches 1 files, and none is a file of weights"):
        expand(["export/*"])


def test_a_misspelt_path_is_met_with_the_likeliest_one() -> None:
    write(Path("export/model.safetensors"), tensors("a"))
    with pytest.raises(CouldNotRead, match=r"'export/modle.safetensors' does not exist; did you mean 'export/model\.s"):
        expand(["export/modle.safetensors"])


def test_a_path_unlike_any_other_is_only_missing() -> None:
    with pytest.raises(CouldNotRead, match="'nowhere' does not exist; correct the path"):
        expand(["nowhere"])


@pytest.mark.parametrize("target", ["meta-llama/Llama-3.1-8B", "org/name@main", "hf://org/name@main/model.safetensors"])
def test_a_model_of_the_hub_stands_for_itself(target: str) -> None:
    assert expand([target, target]) == [target]


def test_a_path_that_exists_wins_over_a_model_of_the_hub() -> None:
    write(Path("org/name/model.safetensors"), tensors("a"))
    assert not is_on_hub("org/name")
    assert is_on_hub("hf://org/name")


def test_a_path_in_a_folder_that_exists_is_no_model_of_the_hub() -> None:
    write(Path("runs/one/model.safetensors"), tensors("a"))
    with pytest.raises(CouldNotRead, match="'runs/two' does not exist"):
        expand(["runs/two"])


def test_a_link_to_nothing_is_kept_for_opening_to_explain() -> None:
    Path("model.safetensors").symlink_to("gone")
    assert expand(["model.safetensors"]) == ["model.safetensors"]


@pytest.mark.parametrize("target", ["a\0b", "\ud800/x"], ids=["NUL", "lone surrogate"])
def test_an_impossible_path_is_a_sentence(target: str) -> None:
    with pytest.raises(CouldNotRead) as caught:
        expand([target])
    assert str(caught.value).isprintable()


def test_an_empty_target_does_not_mean_the_current_folder() -> None:
    write(Path("model.safetensors"), tensors("a"))
    with pytest.raises(UsageError, match="a target is empty"):
        expand([""])
