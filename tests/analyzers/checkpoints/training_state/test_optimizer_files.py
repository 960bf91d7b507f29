"""What optimizers left in files: every tensor bit for bit as torch sees it, whoever wrote it and however it was cut."""

import hashlib
import json
import shutil
from math import prod
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.checkpoints.training_state.reading import read_training_state
from jaynes_audit.analyzers.checkpoints.training_state.state import Method, OptimizerState, ParameterGroup
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import CouldNotRead
from tests.support.fuzzing import read_tensor
from tests.support.pytorch_files import checkpoint, name, pickled, storage, tensor

FIXTURES = Path(__file__).parents[4] / "fixtures"
LEFT = FIXTURES / "training_state"
EXPECTED = json.loads((LEFT / "expected.json").read_text())["tensors"]
TORCH_NAMES = {Dtype.F32: "float32", Dtype.BF16: "bfloat16"}


def optimizer_at(path: Path) -> OptimizerState:
    state = read_training_state(str(path))
    assert state.refused == ()
    assert state.optimizer is not None
    return state.optimizer


def digest(found: Tensor, sources: Sources) -> str:
    content = hashlib.sha256(read_tensor(found, sources)).hexdigest()
    return f"{TORCH_NAMES[found.dtype]} {list(found.shape)} {content}"


@pytest.mark.parametrize("io", Io)
@pytest.mark.parametrize("where", EXPECTED)
def test_every_running_mean_has_the_bytes_that_torch_sees(where: str, io: Io) -> None:
    first_and_second = {"exp_avg": 0, "momentum_buffer": 0, "exp_avg_sq": 1}
    expected = {
        (key, first_and_second[slot]): value
        for key, slots in EXPECTED[where].items()
        for slot, value in slots.items()
        if slot in first_and_second
    }
    optimizer = optimizer_at(LEFT / where)
    keys = {parameter.key: str(place) for place, parameter in enumerate(optimizer.parameters)}
    by_place = optimizer.is_named and not set(keys) & set(EXPECTED[where])
    with Sources(io) as sources:
        found = {
            (keys[parameter.key] if by_place else parameter.key, place): digest(mean, sources)
            for parameter in optimizer.parameters
            for place, mean in enumerate((parameter.first, parameter.second))
            if mean is not None
        }
    assert found == expected


@pytest.mark.parametrize("where", ["zero2", "zero3"])
def test_a_parameter_across_two_ranks_is_read_at_any_place(where: str) -> None:
    across = [
        mean
        for parameter in optimizer_at(LEFT / where).parameters
        for mean in (parameter.first, parameter.second)
        if mean is not None and len({span.file for span in mean.needs(0, mean.bytes)}) > 1
    ]
    assert across
    with Sources(Io.PREAD) as sources:
        for mean in across:
            whole = read_tensor(mean, sources)
            assert mean.stored_bytes == len(whole)
            step = 4
            parts = [bytes(sources.of(mean).read(at, at + step)) for at in range(0, len(whole), step)]
            assert b"".join(parts) == whole


@pytest.mark.parametrize(
    ("where", "method"),
    [
        ("trainer/checkpoint-10", Method.ADAMW),
        ("adamw_named.pt", Method.ADAMW),
        ("adam_half.pt", Method.UNKNOWN),
        ("bundle.pt", Method.UNKNOWN),
        ("sgd.pt", Method.SGD),
        ("sgd_plain.pt", Method.SGD),
        ("lion.pt", Method.LION),
        ("adafactor.pt", Method.ADAFACTOR),
        ("muon.pt", Method.MUON),
        ("zero2", Method.ADAMW),
    ],
)
def test_the_method_is_told_and_why(where: str, method: Method) -> None:
    optimizer = optimizer_at(LEFT / where)
    assert optimizer.method is method
    assert optimizer.evidence


def test_settings_are_those_of_the_groups() -> None:
    decayed, other = optimizer_at(LEFT / "adamw_named.pt").groups
    assert decayed == ParameterGroup(learning_rate=1e-3, weight_decay=0.1, beta1=0.9, beta2=0.95, epsilon=1e-8)
    assert other.weight_decay == 0
    [momentum] = optimizer_at(LEFT / "sgd.pt").groups
    assert momentum == ParameterGroup(learning_rate=0.1, weight_decay=1e-4, momentum=0.9)


def test_names_that_the_file_gives_are_the_keys() -> None:
    named = optimizer_at(LEFT / "adamw_named.pt")
    assert named.is_named
    assert [each.key for each in named.parameters] == ["0.weight", "2.weight", "0.bias", "2.bias"]
    assert [each.group for each in named.parameters] == [0, 0, 1, 1]
    plain = optimizer_at(LEFT / "sgd.pt")
    assert not plain.is_named
    assert [each.key for each in plain.parameters] == ["0", "1", "2", "3"]


def test_a_frozen_parameter_is_there_without_a_memory() -> None:
    frozen, trained, *_ = optimizer_at(LEFT / "adam_half.pt").parameters
    assert (frozen.steps, frozen.first, frozen.second, frozen.shape) == (None, None, None, ())
    assert trained.steps == 2
    assert trained.first is not None
    assert trained.first.dtype is Dtype.BF16


def test_a_learning_rate_that_is_a_tensor_is_a_number_too() -> None:
    [group] = optimizer_at(LEFT / "adam_half.pt").groups
    assert group.learning_rate == np.float32(2e-3)


def test_the_folders_of_lerobot_are_found_from_either() -> None:
    for place in ("lerobot", "lerobot/pretrained_model", "lerobot/training_state"):
        state = read_training_state(str(LEFT / place))
        assert (state.steps, len(state.files), state.refused) == (3, 3, ())


def test_lightning_tells_how_far_it_is() -> None:
    state = read_training_state(str(LEFT / "lightning.ckpt"))
    assert state.steps == 3
    assert state.optimizer
    assert state.optimizer.groups[0].initial_learning_rate == 1e-3


def test_deepspeed_inside_a_checkpoint_folder_is_found(tmp_path: Path) -> None:
    shutil.copytree(LEFT / "zero2", tmp_path / "checkpoint-3")
    shutil.copytree(tmp_path / "checkpoint-3" / "global_step3", tmp_path / "checkpoint-3" / "global_step2")
    state = read_training_state(str(tmp_path / "checkpoint-3"))
    assert [Path(file).name for file in state.files] == ["global_step3"]
    beside = read_training_state(str(LEFT / "zero2" / "global_step3"))
    assert beside.optimizer is not None


def test_a_rank_that_is_missing_is_told(tmp_path: Path) -> None:
    shutil.copytree(LEFT / "zero2", tmp_path / "run")
    (tmp_path / "run" / "global_step3" / "zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    state = read_training_state(str(tmp_path / "run"))
    assert state.optimizer is None
    assert "1 files of ranks, and they speak of 2" in state.refused[0]


def test_a_folder_of_weights_alone_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    state = read_training_state(str(tmp_path))
    assert (state.files, state.steps, state.optimizer, state.history, state.refused) == ((), None, None, None, ())


def test_the_folder_counts_where_a_file_of_weights_is_named(tmp_path: Path) -> None:
    shutil.copytree(LEFT / "trainer" / "checkpoint-5", tmp_path / "run")
    (tmp_path / "run" / "model.safetensors").write_bytes(b"x")
    assert read_training_state(str(tmp_path / "run" / "model.safetensors")).steps == 5


def test_what_is_not_there_is_an_error() -> None:
    with pytest.raises(CouldNotRead):
        read_training_state("no/such/folder/here")


# ---- files that are not sound


def optimizer_file(state: object, groups: object) -> bytes:
    return checkpoint(pickled({"state": state, "param_groups": groups}))


GROUP = {"lr": 0.5, "amsgrad": False, "decoupled_weight_decay": True, "params": [0, 1]}
MEANS = {"step": 3.0, "exp_avg": tensor(), "exp_avg_sq": tensor()}

UNSOUND: dict[str, tuple[bytes, str]] = {
    "cut off": (optimizer_file({0: MEANS}, [GROUP])[:-40], "optimizer.pt"),
    "an HTML page": (b"<!doctype html><html>not found</html>", "HTML page"),
    "a pickle from before 1.6": (b"\x80\x02}q\0.", "torch before 1.6"),
    "no optimizer": (checkpoint(pickled({"a": tensor()})), "no optimizer's state"),
    "a state of no group": (optimizer_file({7: MEANS}, [GROUP]), "'7', which is in no group"),
    "a parameter twice": (optimizer_file({0: MEANS}, [GROUP, GROUP]), "twice"),
    "a text and a number for one": (optimizer_file({}, [{**GROUP, "params": [0, "0"]}]), "twice"),
    "a key that is none": (optimizer_file({}, [{**GROUP, "params": [0.5]}]), "neither by a number nor by a name"),
    "two shapes": (
        checkpoint(
            pickled({"state": {0: {**MEANS, "exp_avg": tensor(storage("1", 2), 0, (2,))}}, "param_groups": [GROUP]}),
            {"0": bytes(16), "1": bytes(8)},
        ),
        "shapes [2] and [4]",
    ),
    "a tensor outside its storage": (
        optimizer_file({0: {**MEANS, "exp_avg": tensor(None, 0, (5,), (1,))}}, [GROUP]),
        "20 bytes into a storage of 16",
    ),
    "a storage that is not there": (
        optimizer_file({0: {**MEANS, "exp_avg": tensor(storage("9"))}}, [GROUP]),
        "storage 'data/9'",
    ),
}


@pytest.mark.parametrize("case", UNSOUND)
def test_a_damaged_optimizer_is_refused_in_one_sentence_and_the_rest_is_read(case: str, tmp_path: Path) -> None:
    content, said = UNSOUND[case]
    (tmp_path / "optimizer.pt").write_bytes(content)
    shutil.copy(LEFT / "trainer" / "checkpoint-5" / "trainer_state.json", tmp_path)
    state = read_training_state(str(tmp_path))
    [refused] = state.refused
    assert said in refused
    assert "\n" not in refused
    assert state.optimizer is None
    assert state.steps == 5


def test_a_tensor_that_repeats_its_bytes_is_not_taken_for_large(tmp_path: Path) -> None:
    large = tensor(None, 0, (1 << 40,), (0,))
    (tmp_path / "optimizer.pt").write_bytes(
        optimizer_file({0: {**MEANS, "exp_avg": large, "exp_avg_sq": large}}, [GROUP])
    )
    optimizer = read_training_state(str(tmp_path)).optimizer
    held = [mean for each in optimizer.parameters for mean in (each.first, each.second) if mean] if optimizer else []
    assert all(prod(mean.shape) <= 4 for mean in held)


def test_what_could_run_code_is_told_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "optimizer.pt").write_bytes(
        optimizer_file({0: {**MEANS, "hook": name("os", "system")}}, [GROUP]),
    )
    state = read_training_state(str(tmp_path))
    assert any("os.system" in remark for remark in state.remarks)


def test_means_of_other_kinds_of_numbers_are_not_taken(tmp_path: Path) -> None:
    whole = tensor(storage("0", 4, name("torch", "IntStorage")))
    (tmp_path / "optimizer.pt").write_bytes(optimizer_file({0: {**MEANS, "exp_avg": whole}}, [GROUP]))
    optimizer = read_training_state(str(tmp_path)).optimizer
    assert optimizer is not None
    assert optimizer.parameters[0].first is None


def test_several_optimizers_in_a_bundle_are_told(tmp_path: Path) -> None:
    one = {"state": {0: MEANS}, "param_groups": [GROUP]}
    (tmp_path / "last.ckpt").write_bytes(checkpoint(pickled({"optimizer_states": [one, one], "global_step": 9})))
    state = read_training_state(str(tmp_path))
    assert state.steps == 9
    assert any("2 optimizers" in remark for remark in state.remarks)


def test_the_two_counts_of_updates_are_compared(tmp_path: Path) -> None:
    (tmp_path / "optimizer.pt").write_bytes(optimizer_file({0: MEANS}, [GROUP]))
    shutil.copy(LEFT / "trainer" / "checkpoint-5" / "trainer_state.json", tmp_path)
    assert "the trainer counts 5 updates, and the optimizer 3" in read_training_state(str(tmp_path)).remarks
