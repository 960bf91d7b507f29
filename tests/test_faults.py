"""The faults that benchmarks/fault_injection.py injects are what they are called, and nothing else changes."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors import safe_open

from benchmarks.faults.files import FORMATS, Format, cut, in_format, read_safetensors, write
from benchmarks.faults.injections import FAULTS, TRUNCATED, Damage, Fault, NotPossible, damaged
from benchmarks.faults.model import Model, Stored, cast
from benchmarks.faults.reexports import reexports
from benchmarks.faults.scoring import TODAY, Mode, kept, measured, trials
from jaynes_audit.analyzers.gate import Held, judge
from jaynes_audit.analyzers.rules import Level
from jaynes_audit.analyzers.verdict import USUAL_POLICY

WIDTH, HEADS, BLOCKS = 32, 4, 3
CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": BLOCKS,
    "hidden_size": WIDTH,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "intermediate_size": 2 * WIDTH,
    "vocab_size": 64,
}
SIZES = (0, 1, 2)
FAULT_OF = {fault.name: fault for fault in FAULTS}
IN_FP8 = ("wrong FP8 scale",)
IN_HALF = ("fp16 overflow saturated", "bf16 read as fp16")


def weights(*shape: int, seed: int) -> Stored:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.05, shape) if len(shape) > 1 else rng.normal(1.2, 0.1, shape)
    return Stored(dtype="F32", shape=shape, data=values.astype(np.float32).tobytes())


def tensors(seed: int) -> dict[str, Stored]:
    shapes = {"model.embed_tokens.weight": (64, WIDTH), "model.norm.weight": (WIDTH,), "lm_head.weight": (64, WIDTH)}
    for block in range(BLOCKS):
        prefix = f"model.layers.{block}."
        shapes |= {f"{prefix}self_attn.{part}_proj.weight": (WIDTH, WIDTH) for part in "qkvo"}
        shapes |= {f"{prefix}mlp.{part}_proj.weight": (2 * WIDTH, WIDTH) for part in ("gate", "up")}
        shapes[f"{prefix}mlp.down_proj.weight"] = (WIDTH, 2 * WIDTH)
        shapes |= {f"{prefix}{norm}_layernorm.weight": (WIDTH,) for norm in ("input", "post_attention")}
    return {name: weights(*shape, seed=seed + at) for at, (name, shape) in enumerate(shapes.items())}


MODEL = Model(
    name="tiny",
    config=CONFIG,
    tensors=tensors(0),
    initial=tensors(500),
    earlier=(tensors(1000),),
    following=tensors(2000),
)


def model_for(fault: Fault) -> Model:
    dtype = "F8_E4M3" if fault.name in IN_FP8 else "F16" if fault.name in IN_HALF else "F32"
    return in_format(MODEL, Format(container="safetensors", dtype=dtype))


def injected(name: str, size: int, model: Model | None = None) -> tuple[Model, Damage]:
    model = model or model_for(FAULT_OF[name])
    damage = damaged(model, FAULT_OF[name], size, np.random.default_rng([7, size]))
    assert isinstance(damage, Damage)
    return model, damage


def changed(model: Model, damage: Damage) -> dict[str, tuple[Stored, Stored]]:
    """The tensors that have other content under the same name, before and after."""
    return {
        name: (model.tensors[name], stored)
        for name, stored in damage.tensors.items()
        if name in model.tensors and model.tensors[name] != stored
    }


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_changes_what_it_names_and_no_other_byte(fault, size) -> None:
    model, damage = injected(fault.name, size)
    renamed = set(model.tensors) ^ set(damage.tensors)
    assert fault is TRUNCATED or changed(model, damage) or renamed
    assert set(changed(model, damage)) | renamed <= damage.named


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_same_numbers_are_drawn_each_time(fault) -> None:
    (_, one), (_, other) = injected(fault.name, 1), injected(fault.name, 1)
    assert one == other


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "is_it"), [("one NaN", np.isnan), ("one Inf", np.isinf)])
def test_one_weight_is_not_finite(name, is_it, size) -> None:
    model, damage = injected(name, size)
    ((before, after),) = changed(model, damage).values()
    assert is_it(after.values).sum() == 1
    assert (before.values != after.values).sum() == 1


@pytest.mark.parametrize("size", SIZES)
def test_a_flipped_exponent_bit_is_one_bit_and_makes_the_weight_huge(size) -> None:
    model, damage = injected("flipped exponent bit", size)
    ((before, after),) = changed(model, damage).values()
    bits = np.frombuffer(before.data, np.uint8) ^ np.frombuffer(after.data, np.uint8)
    assert np.unpackbits(bits).sum() == 1
    assert (~(np.abs(after.values) < 1e30)).sum() == 1  # of a weight above 1 it makes a NaN


@pytest.mark.parametrize(("size", "rows"), [(0, 1), (1, 4), (2, 16)])
def test_so_many_rows_are_zero(size, rows) -> None:
    model, damage = injected("zeroed rows", size)
    ((before, after),) = changed(model, damage).values()
    assert (~after.values.any(axis=1)).sum() == rows * len(before.values) // WIDTH


@pytest.mark.parametrize(("size", "heads"), [(0, 1), (1, 1), (2, BLOCKS)])
def test_a_head_of_the_queries_is_zero(size, heads) -> None:
    _, damage = injected("zeroed head", size)
    queries = [stored.values for name, stored in damage.tensors.items() if "q_proj" in name]
    dead = sum(not head.any() for values in queries for head in np.split(values, HEADS))
    assert dead == heads
    outputs = [stored.values for name, stored in damage.tensors.items() if "o_proj" in name]
    assert sum((~values.any(axis=0)).sum() for values in outputs) == (WIDTH // HEADS if size == 1 else 0)


@pytest.mark.parametrize(
    ("name", "factor"),
    [("scaled by 2", 2.0), ("scaled by 1.05", 1.05), ("scaled by 1/sqrt(2)", 0.5**0.5), ("sign flipped", -1.0)],
)
def test_a_scaled_layer_is_so_many_times_what_it_was(name, factor) -> None:
    model, damage = injected(name, 1)
    assert len(changed(model, damage)) == 7
    for before, after in changed(model, damage).values():
        np.testing.assert_allclose(after.values, factor * before.values, rtol=1e-6)


@pytest.mark.parametrize(("name", "size"), [("transposed", 2), ("byte-swapped", 2), ("sign flipped", 2)])
def test_what_turns_round_is_undone_by_doing_it_again(name, size) -> None:
    model, damage = injected(name, size)
    broken = replace(model, tensors=damage.tensors)
    again = damaged(broken, FAULT_OF[name], size, np.random.default_rng([7, size]))
    assert again.tensors == model.tensors


@pytest.mark.parametrize("size", SIZES)
def test_swapped_layers_hold_one_another(size) -> None:
    model, damage = injected("two layers swapped", size)
    pairs = changed(model, damage)
    assert {before.data for before, _ in pairs.values()} == {after.data for _, after in pairs.values()}
    assert len(pairs) in ((2,), (2 * 3, 2 * 4), (2 * 9,))[size]  # an MLP has three matrices, an attention four


@pytest.mark.parametrize("size", SIZES)
def test_a_copied_layer_is_there_twice_and_both_may_be_named(size) -> None:
    model, damage = injected("layer copied over another", size)
    for _, after in changed(model, damage).values():
        twins = [name for name, stored in damage.tensors.items() if stored == after]
        assert len(twins) == 2
        assert set(twins) <= damage.named


@pytest.mark.parametrize("size", SIZES)
def test_permuted_rows_are_the_same_rows(size) -> None:
    model, damage = injected("rows permuted", size)
    ((before, after),) = changed(model, damage).values()
    assert sorted(map(bytes, before.values)) == sorted(map(bytes, after.values))


def test_misread_bytes_are_those_of_bfloat16_under_the_name_of_float16() -> None:
    model, damage = injected("bf16 read as fp16", 0)
    ((before, after),) = changed(model, damage).values()
    assert after.dtype == "F16"
    assert after.data == before.cast("BF16").data


@pytest.mark.parametrize("size", SIZES)
def test_saturated_weights_have_the_largest_float16_and_keep_their_sign(size) -> None:
    model, damage = injected("fp16 overflow saturated", size)
    ((before, after),) = changed(model, damage).values()
    hit = np.abs(after.values) == np.finfo(np.float16).max
    assert hit.sum() == max(1, round((0, 1e-3, 1e-2)[size] * before.weights))
    assert (np.sign(after.values) == np.sign(before.values)).all()


@pytest.mark.parametrize(("size", "share"), [(0, 0.02), (1, 0.1), (2, 0.5)])
def test_the_smallest_weights_are_flushed(size, share) -> None:
    model, damage = injected("flushed to zero", size)
    ((before, after),) = changed(model, damage).values()
    is_zero = after.values == 0
    assert is_zero.mean() == pytest.approx(share, abs=2e-3)
    assert np.abs(before.values[is_zero]).max() < np.abs(after.values[~is_zero]).min()


@pytest.mark.parametrize(("size", "factor", "scales"), [(0, 2.0, 1), (1, 0.5, 7), (2, 16.0, 7 * BLOCKS)])
def test_so_many_scales_are_wrong_by_a_factor(size, factor, scales) -> None:
    model, damage = injected("wrong FP8 scale", size)
    assert len(changed(model, damage)) == scales
    for before, after in changed(model, damage).values():
        assert after.values / before.values == pytest.approx(factor)


@pytest.mark.parametrize("size", SIZES)
def test_a_lora_merged_again_adds_a_tenth_of_low_rank(size) -> None:
    model, damage = injected("LoRA merged twice", size)
    assert len(changed(model, damage)) == (1, BLOCKS, 7 * BLOCKS)[size]
    for before, after in changed(model, damage).values():
        change = after.values - before.values
        assert np.linalg.norm(change) == pytest.approx(0.1 * np.linalg.norm(before.values), rel=1e-3)
        assert np.linalg.matrix_rank(change, tol=1e-3 * np.linalg.norm(change)) == 8


@pytest.mark.parametrize(("size", "rows"), [(0, 1), (1, 4), (2, 16)])
def test_so_many_rows_of_the_embedding_are_garbled(size, rows) -> None:
    model, damage = injected("embedding rows garbled", size)
    (before, after) = changed(model, damage)["model.embed_tokens.weight"]
    differ = np.frombuffer(before.data, np.uint8).reshape(64, -1) != np.frombuffer(after.data, np.uint8).reshape(64, -1)
    assert differ.any(axis=1).sum() == rows


@pytest.mark.parametrize(("size", "count"), [(0, 1), (1, 1), (2, 9)])
def test_so_many_tensors_are_missing_extra_or_renamed(size, count) -> None:
    names = set(MODEL.tensors)
    missing, extra, renamed = (
        set(injected(f"{what} tensor", size)[1].tensors) for what in ("missing", "extra", "renamed")
    )
    assert missing < names
    assert names < extra
    assert (len(names - missing), len(extra - names)) == (count, count)
    assert (len(names - renamed), len(renamed - names)) == (count, count)


def test_an_extra_block_follows_the_last_one() -> None:
    _, damage = injected("extra tensor", 2)
    assert {re.match(r"model\.layers\.\d+", name)[0] for name in set(damage.tensors) - set(MODEL.tensors)} == {
        f"model.layers.{BLOCKS}"
    }


def test_a_stale_shard_is_of_the_step_that_its_size_says() -> None:
    model = MODEL
    for size, state in enumerate((model.earlier[0], model.initial)):
        _, damage = injected("stale shard", size, model)
        assert changed(model, damage)
        assert all(after == state[name] for name, (_, after) in changed(model, damage).items())


@pytest.mark.parametrize(("size", "share"), [(0, 0.0), (1, 0.1), (2, 0.5)])
def test_a_truncated_file_lacks_so_many_bytes(size, share, tmp_path) -> None:
    _, damage = injected("truncated file", size)
    file = write(MODEL, "safetensors", tmp_path / "model") / "model.safetensors"
    whole = file.read_bytes()
    cut(tmp_path / "model", damage.cut)
    left = file.read_bytes()
    assert len(whole) - len(left) == max(1, int(share * len(whole)))
    assert whole.startswith(left)


def test_what_a_model_does_not_have_cannot_be_broken() -> None:
    plain = Model(name="plain", config={}, tensors={"a": weights(8, 8, seed=1)}, initial={}, following={})
    impossible = (
        "zeroed head",
        "layer at initialisation",
        "wrong FP8 scale",
        "embedding rows garbled",
        "missing tensor",
    )
    for name in impossible:
        assert isinstance(damaged(plain, FAULT_OF[name], 0, np.random.default_rng(0)), NotPossible)


# ---- files


@pytest.mark.parametrize("container", ["safetensors", "sharded"])
def test_safetensors_reads_the_files_back(container, tmp_path) -> None:
    folder = write(MODEL, container, tmp_path / "model")
    read = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "np") as opened:
            read |= {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no mapping
    assert set(read) == set(MODEL.tensors)
    for name, stored in MODEL.tensors.items():
        np.testing.assert_array_equal(read[name], stored.values)
    assert read_safetensors(folder) == MODEL.tensors


def test_gguf_reads_the_file_back(tmp_path) -> None:
    made = in_format(MODEL, Format(container="GGUF", dtype="F16"))
    read = {tensor.name: tensor for tensor in gguf.GGUFReader(write(made, "GGUF", tmp_path / "model")).tensors}
    assert set(read) == set(made.tensors)
    up = MODEL.tensors["model.layers.1.mlp.up_proj.weight"].values
    np.testing.assert_array_equal(read["blk.1.ffn_up.weight"].data, up.astype(np.float16))
    assert len(made.tensors) == len(MODEL.tensors)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.words)
def test_every_format_is_audited_whole(form, tmp_path) -> None:
    found = measured(write(in_format(MODEL, form), form.container, tmp_path / "model"))
    assert len(found.audit) == len(MODEL.tensors)
    assert found.audit.coverage.complete


def test_re_exports_hold_the_same_weights() -> None:
    seen = []
    for each in reexports(MODEL):
        seen.append(each.name)
        if "training" in each.name or "GGUF" in each.name:
            continue
        before = sorted(cast(each.before.model.tensors, "BF16").values(), key=lambda stored: stored.data)
        after = sorted(cast(each.after.model.tensors, "BF16").values(), key=lambda stored: stored.data)
        if each.name != "fp32 -> fp16":
            assert before == after
    assert len(seen) == len(set(seen))
    assert len(seen) > 15


def test_a_trial_says_what_the_gate_says_with_a_baseline_and_without(tmp_path) -> None:
    wanted = [(FAULT_OF["one NaN"], 1), (FAULT_OF["two layers swapped"], 1)]
    nan, swapped = trials(MODEL, FORMATS[1], tmp_path, wanted)
    assert nan.said[Mode.ALONE].level is Level.ERROR
    assert swapped.said[Mode.BASELINE].level is Level.ERROR
    assert swapped.said[Mode.ALONE].level is None


def jaynes(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - it runs this very project
        [sys.executable, "-m", "jaynes_audit", *map(str, arguments)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def baseline(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("healthy")
    made = folder / "model.jaynes.jsonl"
    assert jaynes("baseline", "write", made, write(MODEL, "safetensors", folder / "model")).returncode == 0
    return made


@pytest.mark.parametrize(
    ("name", "status"),
    [("one NaN", 1), ("scaled by 1.05", 1), ("missing tensor", 1), ("truncated file", 1), ("extra tensor", 0)],
)
def test_the_command_says_what_the_benchmark_counts(name, status, baseline, tmp_path) -> None:
    stored = kept(measured(write(MODEL, "safetensors", tmp_path / "model")).baseline)
    _, damage = injected(name, 1, MODEL)
    broken = write(replace(MODEL, tensors=damage.tensors), "safetensors", tmp_path / "model")
    if FAULT_OF[name] is TRUNCATED:
        cut(broken, damage.cut)
    found = measured(broken)
    findings = judge(found.audit, USUAL_POLICY, Held(against=stored, now=found.baseline), today=TODAY)
    gate = jaynes("gate", broken, "--baseline", baseline, "--no-config", "-o", "json")
    (model,) = json.loads(gate.stdout)["models"]
    told = {(each["rule"], each["subject"], each["status"]) for each in model["findings"]}
    assert told == {(each.rule, each.subject, each.status) for each in findings}
    assert gate.returncode == status
