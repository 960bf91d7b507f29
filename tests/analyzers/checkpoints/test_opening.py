"""Which files of a path become one checkpoint, by every convention in use."""

import json
import os
import socket
from pathlib import Path

import pytest

from jaynes_audit.analyzers.checkpoints import Checkpoint, open_checkpoint
from jaynes_audit.analyzers.checkpoints.configs import LARGEST_CONFIG
from jaynes_audit.analyzers.checkpoints.opening import open_place
from jaynes_audit.analyzers.errors import CouldNotRead, NothingToAudit, UsageError
from tests.support.safetensors_files import safetensors, tensors, write, write_sharded


def names(checkpoint: Checkpoint) -> list[str]:
    return [tensor.name for tensor in checkpoint.tensors]


def test_a_file_is_a_checkpoint(tmp_path: Path) -> None:
    path = write(tmp_path / "any.safetensors", tensors("a", "b"))
    checkpoint = open_checkpoint(str(path))
    assert names(checkpoint) == ["a", "b"]
    assert (checkpoint.location, checkpoint.files, checkpoint.remarks) == (str(path), (path,), ())


def test_a_file_is_told_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    assert names(open_place(write(tmp_path / "weights.bin", tensors("a")))) == ["a"]
    (defect,) = open_place(write(tmp_path / "model.safetensors", b"GGUF" + bytes(20))).defects
    assert (defect.rule, defect.case) == ("JN002", "gguf-version")


def test_a_folder_with_one_model_is_a_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", tensors("a"))
    write(tmp_path / "tokenizer.json", {})
    assert names(open_place(tmp_path)) == ["a"]


def test_a_link_to_a_file_is_followed_as_a_cache_of_the_hub_needs(tmp_path: Path) -> None:
    blob = write(tmp_path / "blobs" / "0123", tensors("a"))
    snapshot = tmp_path / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(blob)
    assert names(open_place(snapshot)) == ["a"]


# ---- shards


def test_an_index_and_a_shard_stand_for_the_whole_checkpoint(tmp_path: Path) -> None:
    write_sharded(tmp_path, [["a"], ["b"]])
    assert names(open_place(tmp_path / "model.safetensors.index.json")) == ["a", "b"]
    checkpoint = open_place(tmp_path / "model-00002-of-00002.safetensors")
    assert names(checkpoint) == ["a", "b"]
    assert checkpoint.remarks == (
        "'model-00002-of-00002.safetensors' is one shard of several, so the whole checkpoint was read",
    )


def test_shards_without_an_index_are_read_with_a_remark(tmp_path: Path) -> None:
    checkpoint = open_place(write_sharded(tmp_path, [["a"], ["b"]], index=False))
    assert names(checkpoint) == ["a", "b"]
    assert checkpoint.remarks == ("the shards have no index, so a tensor missing from them would not be noticed",)


def test_shards_without_an_index_tell_by_their_numbers_which_is_missing(tmp_path: Path) -> None:
    write_sharded(tmp_path, [["a"], ["b"], ["c"]], index=False)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    checkpoint = open_place(tmp_path)
    (defect,) = checkpoint.defects
    assert (defect.rule, defect.case) == ("JN005", "missing-shard")
    assert defect.sentence.startswith("1 of 3 files of weights are missing: 'model-00002-of-00003.safetensors'")
    assert names(checkpoint) == ["a", "c"]


def test_a_name_that_speaks_of_a_million_shards_costs_nothing(tmp_path: Path) -> None:
    write(tmp_path / "model-000001-of-999999.safetensors", tensors("a"))
    (defect,) = open_place(tmp_path).defects
    assert "999,998 of 999,999" in defect.sentence
    assert len(defect.sentence) < 400


def test_shards_numbered_from_zero_are_complete(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / f"model-{number:05d}-of-00002.safetensors", tensors(f"t{number}"))
    assert open_place(tmp_path).defects == ()


def test_a_tensor_in_two_shards_without_an_index_is_read_once(tmp_path: Path) -> None:
    checkpoint = open_place(write_sharded(tmp_path, [["a"], ["a", "b"]], index=False))
    assert [defect.case for defect in checkpoint.defects] == ["tensor-in-two-shards"]
    assert names(checkpoint) == ["a", "b"]


def test_a_model_that_is_a_link_to_nothing_is_missing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    (defect,) = open_place(tmp_path).defects
    assert defect.case == "missing-shard"
    assert "'model.safetensors'" in defect.sentence


def test_an_alias_that_another_shard_holds_as_a_tensor_is_none(tmp_path: Path) -> None:
    write(tmp_path / "model-1-of-2.safetensors", tensors("a", metadata={"b": "a", "c": "a"}))
    write(tmp_path / "model-2-of-2.safetensors", tensors("b"))
    assert open_place(tmp_path).aliases == {"c": "a"}


def test_hidden_files_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", tensors("a"))
    write(tmp_path / "._model.safetensors", b"\0\5\x16\7")  # as macOS leaves behind on other disks
    checkpoint = open_place(tmp_path)
    assert (names(checkpoint), checkpoint.remarks) == (["a"], ())


# ---- variants and duplicates


@pytest.mark.parametrize(
    "files",
    [
        ("model.fp16.safetensors",),
        ("model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"),
        (
            "diffusion_pytorch_model-00001-of-00002.fp16.safetensors",
            "diffusion_pytorch_model-00002-of-00002.fp16.safetensors",
        ),
    ],
    ids=["one file", "shards", "shards as diffusers once named them"],
)
def test_a_variant_alone_is_read(tmp_path: Path, files: tuple[str, ...]) -> None:
    for file in files:
        write(tmp_path / file, tensors(file))
    checkpoint = open_place(tmp_path)
    assert names(checkpoint) == list(files)
    assert checkpoint.defects == ()


def test_the_index_of_a_variant_finds_its_shards(tmp_path: Path) -> None:
    shards = ["model.fp16-00001-of-00002.safetensors", "model.fp16-00002-of-00002.safetensors"]
    for shard in shards:
        write(tmp_path / shard, tensors(shard))
    write(tmp_path / "model.safetensors.index.fp16.json", {"weight_map": {shard: shard for shard in shards}})
    checkpoint = open_place(tmp_path)
    assert names(checkpoint) == shards
    assert (checkpoint.defects, checkpoint.remarks) == ((), ())


PREFERENCE = (
    "model.safetensors.index.json",
    "model.safetensors",
    "model.fp16.safetensors",
    "consolidated.safetensors",
)


@pytest.mark.parametrize("position", range(len(PREFERENCE)), ids=PREFERENCE)
def test_of_the_same_weights_twice_one_is_read_and_the_others_are_named(tmp_path: Path, position: int) -> None:
    present = PREFERENCE[position:]
    for name in present:
        if name.endswith(".json"):
            write_sharded(tmp_path, [["index"], ["more"]])
        else:
            write(tmp_path / name, tensors(name))
    checkpoint = open_place(tmp_path)
    assert names(checkpoint)[0] in {present[0], "index"}
    if len(present) == 1:
        assert checkpoint.remarks == ()
    else:
        (remark,) = checkpoint.remarks
        assert remark.startswith(f"read '{present[0]}' and passed over '{present[1]}'")
        assert all(name in remark for name in present)


def test_the_parts_of_a_consolidated_checkpoint_are_one(tmp_path: Path) -> None:
    write(tmp_path / "consolidated.00.safetensors", tensors("a"))
    write(tmp_path / "consolidated.01.safetensors", tensors("b"))
    assert names(open_place(tmp_path)) == ["a", "b"]


def test_an_original_folder_is_passed_over_with_a_remark(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", tensors("a"))
    write(tmp_path / "original" / "consolidated.00.pth", b"PK\x03\x04")
    (remark,) = open_place(tmp_path).remarks
    assert "passed over 'original/'" in remark


def test_an_index_that_names_the_single_file_is_not_a_second_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", tensors("a"))
    write(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": "model.safetensors"}})
    checkpoint = open_place(tmp_path)
    assert (names(checkpoint), checkpoint.remarks, checkpoint.defects) == (["a"], (), ())


def test_a_refused_file_that_the_index_names_is_not_called_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", tensors("a")[:-1])
    write(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": "model.safetensors"}})
    checkpoint = open_place(tmp_path)
    assert [defect.case for defect in checkpoint.defects] == ["data-cut-off"]
    assert checkpoint.remarks == ()


def test_an_index_may_name_shards_by_any_names(tmp_path: Path) -> None:
    write(tmp_path / "first.safetensors", tensors("a"))
    write(tmp_path / "last.safetensors", tensors("b"))
    weight_map = {"a": "first.safetensors", "b": "last.safetensors"}
    write(tmp_path / "weights.safetensors.index.json", {"weight_map": weight_map})
    checkpoint = open_place(tmp_path)
    assert (names(checkpoint), checkpoint.remarks, checkpoint.defects) == (["a", "b"], (), ())


# ---- unrelated files


def test_unrelated_files_whose_names_differ_are_one_checkpoint(tmp_path: Path) -> None:
    write(tmp_path / "head.safetensors", tensors("head"))
    write(tmp_path / "body.safetensors", tensors("body"))
    checkpoint = open_place(tmp_path)
    assert names(checkpoint) == ["body", "head"]
    assert "were read as one checkpoint" in checkpoint.remarks[-1]


def test_unrelated_files_with_the_same_tensors_are_separate_models(tmp_path: Path) -> None:
    write(tmp_path / "cat_lora.safetensors", tensors("up", "down"))
    write(tmp_path / "dog_lora.safetensors", tensors("up", "down"))
    with pytest.raises(UsageError, match=r"2 separate models.*name one of 'cat_lora.safetensors', 'dog_lora") as caught:
        open_place(tmp_path)
    assert "'down' for one" in str(caught.value)


# ---- adapters, pipelines, training runs


def test_an_adapter_is_read_with_its_own_config(tmp_path: Path) -> None:
    write(tmp_path / "adapter_model.safetensors", tensors("lora_A"))
    write(tmp_path / "adapter_config.json", {"r": 8})
    write(tmp_path / "config.json", {"r": 0})
    checkpoint = open_place(tmp_path)
    assert names(checkpoint) == ["lora_A"]
    assert checkpoint.config_of("lora_A") == {"r": 8}


def test_beside_a_model_an_adapter_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "adapter_model.safetensors", tensors("lora_A"))
    write(tmp_path / "model.safetensors", tensors("a"))
    checkpoint = open_place(tmp_path)
    assert names(checkpoint) == ["a"]
    assert "'adapter_model.safetensors'" in checkpoint.remarks[0]


def pipeline(folder: Path) -> Path:
    write(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "safety_checker": [None, None],
        },
    )
    write(folder / "unet" / "diffusion_pytorch_model.safetensors", tensors("conv_in.weight"))
    write(folder / "unet" / "config.json", {"in_channels": 4})
    write(folder / "text_encoder" / "model.safetensors", tensors("embed", metadata={"head": "embed"}))
    write(folder / "text_encoder" / "config.json", {"hidden_size": 768})
    write(folder / "scheduler" / "scheduler_config.json", {})
    return folder


def test_the_components_of_a_pipeline_are_one_checkpoint(tmp_path: Path) -> None:
    checkpoint = open_place(pipeline(tmp_path))
    assert names(checkpoint) == ["text_encoder/embed", "unet/conv_in.weight"]
    assert checkpoint.aliases == {"text_encoder/head": "text_encoder/embed"}
    assert (checkpoint.defects, checkpoint.remarks) == ((), ())


def test_each_component_of_a_pipeline_has_its_own_config(tmp_path: Path) -> None:
    checkpoint = open_place(pipeline(tmp_path))
    assert checkpoint.config_of("unet/conv_in.weight") == {"in_channels": 4}
    assert checkpoint.config_of("text_encoder/embed") == {"hidden_size": 768}
    assert checkpoint.config_of("vae/conv_in.weight") == {}


def test_what_a_pipeline_does_not_give_is_said(tmp_path: Path) -> None:
    write(pipeline(tmp_path) / "v1-5.ckpt.safetensors", tensors("all"))
    write(tmp_path / "old_unet" / "model.safetensors", tensors("old"))
    write(tmp_path / "vae" / "saved_model.pb", b"")
    (tmp_path / "scheduler" / "scheduler_config.json").unlink()
    (tmp_path / "scheduler").rmdir()
    checkpoint = open_place(tmp_path)
    assert names(checkpoint) == ["text_encoder/embed", "unet/conv_in.weight"]
    assert checkpoint.remarks == (
        "passed over 'v1-5.ckpt.safetensors' beside the components",
        "passed over 'old_unet/', which model_index.json does not name",
        "passed over 'vae/': it holds 'saved_model.pb', which is not read",
        "model_index.json names the component 'scheduler', and there is no folder of that name",
    )


def test_a_component_prefers_its_full_weights_and_says_which_it_passed_over(tmp_path: Path) -> None:
    write(pipeline(tmp_path) / "unet" / "diffusion_pytorch_model.fp16.safetensors", tensors("half"))
    checkpoint = open_place(tmp_path)
    assert names(checkpoint) == ["text_encoder/embed", "unet/conv_in.weight"]
    (remark,) = checkpoint.remarks
    assert remark.startswith("unet/: read 'diffusion_pytorch_model.safetensors' and passed over")


def test_a_training_run_names_its_checkpoints(tmp_path: Path) -> None:
    write(tmp_path / "checkpoint-500" / "model.safetensors", tensors("a"))
    write(tmp_path / "checkpoint-1000" / "model.safetensors", tensors("a"))
    with pytest.raises(NothingToAudit, match=r"training run .* 'checkpoint-1000', 'checkpoint-500'"):
        open_place(tmp_path)


def test_a_finished_training_run_is_read_and_its_steps_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", tensors("final"))
    write(tmp_path / "checkpoint-500" / "model.safetensors", tensors("a"))
    checkpoint = open_place(tmp_path)
    assert names(checkpoint) == ["final"]
    assert "passed over 'checkpoint-500/'" in checkpoint.remarks[0]


# ---- nothing to audit


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    write(tmp_path / "README.md", b"")
    with pytest.raises(NothingToAudit, match="holds no file of weights"):
        open_place(tmp_path)


def test_a_folder_of_other_formats_names_them(tmp_path: Path) -> None:
    write(tmp_path / "saved_model.pb", b"")
    write(tmp_path / "forest.pkl", b"")
    with pytest.raises(NothingToAudit, match=r"'forest.pkl \(pickle\)', 'saved_model.pb \(TensorFlow\)'"):
        open_place(tmp_path)


def test_a_folder_whose_weights_lie_deeper_names_where(tmp_path: Path) -> None:
    write(tmp_path / "export" / "model.safetensors", tensors("a"))
    with pytest.raises(NothingToAudit, match="name one of 'export'"):
        open_place(tmp_path)


def test_a_sound_file_without_tensors_is_nothing_to_audit(tmp_path: Path) -> None:
    with pytest.raises(NothingToAudit, match="holds no tensor"):
        open_place(write(tmp_path / "model.safetensors", safetensors({})))


# ---- config.json


def test_the_config_beside_the_weights_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", tensors("a"))
    write(tmp_path / "config.json", {"model_type": "llama"})
    assert open_place(path).config_of("a") == {"model_type": "llama"}
    assert open_place(tmp_path).configs == {"": {"model_type": "llama"}}


@pytest.mark.parametrize(
    ("content", "remark"),
    [
        (b"{", "'config.json' is not JSON and was not used"),
        (b"\xff", "'config.json' is not JSON and was not used"),
        (b"[" * 100_000, "'config.json' is not JSON and was not used"),
        (b"[]", "'config.json' is not a JSON object and was not used"),
        (b" " * (LARGEST_CONFIG + 1), "'config.json' has more than 10,000,000 bytes and was not used"),
    ],
    ids=["cut off", "not UTF-8", "nesting bomb", "a list", "oversized"],
)
def test_a_bad_config_is_a_remark_and_no_more(tmp_path: Path, content: bytes, remark: str) -> None:
    write(tmp_path / "model.safetensors", tensors("a"))
    write(tmp_path / "config.json", content)
    checkpoint = open_place(tmp_path)
    assert (names(checkpoint), checkpoint.configs, checkpoint.remarks) == (["a"], {}, (remark,))


def test_a_config_that_is_a_pipe_is_a_remark_and_no_waiting(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", tensors("a"))
    os.mkfifo(tmp_path / "config.json")
    (remark,) = open_place(tmp_path).remarks
    assert "named pipe" in remark


# ---- what the machine puts in the way


def test_a_path_that_does_not_exist_is_said(tmp_path: Path) -> None:
    with pytest.raises(CouldNotRead, match=r"'.*gone' does not exist"):
        open_place(tmp_path / "gone")


def test_a_pipe_is_refused_and_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    for location in (tmp_path, tmp_path / "model.safetensors"):
        (defect,) = open_place(Path(location)).defects
        assert (defect.rule, defect.case) == ("JN002", "not-a-regular-file")
        assert "named pipe" in defect.sentence


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may have only 100 characters
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("model.safetensors")
        (defect,) = open_place(tmp_path).defects
    assert "a socket" in defect.sentence


def test_a_device_is_refused() -> None:
    (defect,) = open_place(Path("/dev/zero")).defects
    assert "a character device" in defect.sentence


def test_a_shard_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}})
    write(tmp_path / "a.safetensors", tensors("a"))
    (tmp_path / "b.safetensors").mkdir()
    checkpoint = open_place(tmp_path)
    assert names(checkpoint) == ["a"]
    assert [defect.case for defect in checkpoint.defects] == ["not-a-regular-file"]


def test_a_link_that_leads_back_to_itself_is_said(tmp_path: Path) -> None:
    loop = tmp_path / "model.safetensors"
    loop.symlink_to(loop)
    for location in (tmp_path, loop):
        with pytest.raises(CouldNotRead, match="symbolic link that leads back to itself"):
            open_place(Path(location))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_said(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", tensors("a")).chmod(0)
    with pytest.raises(CouldNotRead, match="no permission"):
        open_place(tmp_path)


def test_a_file_where_a_folder_should_be_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", tensors("a"))
    with pytest.raises(CouldNotRead, match="cannot be read: Not a directory"):
        open_place(path / "config.json")


@pytest.mark.parametrize("location", ["a\0b", "\ud800"], ids=["NUL", "lone surrogate"])
def test_a_path_that_no_file_can_have_is_said(location: str) -> None:
    with pytest.raises(CouldNotRead) as caught:
        open_place(Path(location))
    assert str(caught.value).isprintable()


def test_tensors_that_only_the_index_knows_are_named_as_missing(tmp_path: Path) -> None:
    write(tmp_path / "model-00001-of-00002.safetensors", tensors("here"))
    weight_map = {"here": "model-00001-of-00002.safetensors", "gone": "model-00002-of-00002.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert open_place(tmp_path).missing == ("gone",)
