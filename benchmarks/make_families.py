"""Make families of small networks whose kinship is known, and list what `jaynes compare` should say of each pair.

    python -m venv torchenv
    torchenv/bin/pip install torch==2.13.0 transformers==5.23.0 safetensors scikit-learn numpy gguf
    torchenv/bin/python benchmarks/make_families.py --out FOLDER [--workers N]

There are five families: fixtures/babble, and a Llama, a Qwen2, a GPT-2 and a BERT of six blocks that are trained here
on the text of the fixtures. FOLDER gets one folder for each, `families.json` with the pairs, and `losses.json` with
what each training reached. What is trained already is not trained again. On one machine the same seeds give the same
weights. It takes about twenty minutes of one core.
"""

import argparse
import json
import multiprocessing
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import transformers
from families import files, rewritings
from families.networks import (
    FIXTURES,
    Lora,
    Run,
    State,
    Trained,
    load,
    network_of,
    save,
    state_of,
    train,
)

FAMILIES = ("llama", "gpt2", "babble", "bert", "qwen2")
TWIN_SEEDS = (2, 3)
UNTRAINED_SEED = 9
SHUFFLE_SEED = 5
STEPS = 400
BABBLE_STEPS = 1500  # as the fixture has
OTHER_SIZE_STEPS = 250
SHORT_TUNING, LONG_TUNING, LORA_STEPS = 10, 1000, 100
TUNING_RATE = 1e-4  # a thirtieth of the peak, and about a thousandth of a weight
LORA_RATE = 2e-3
TUNING_BATCH = 4
OTHER_SIZES = {"other-width": {"hidden_size": 48}, "other-depth": {"num_hidden_layers": 8}}
QUERIES_AND_VALUES = ("q_proj", "v_proj", "c_attn", "self.query", "self.value")
ALL_OF_A_BLOCK = (
    *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
    *("c_attn", "c_proj", "c_fc"),
    *("self.query", "self.key", "self.value", "output.dense", "intermediate.dense"),
)
LORAS = {4: QUERIES_AND_VALUES, 8: ALL_OF_A_BLOCK}

SAME, QUANTISED, FINE_TUNED = "same weights", "quantised", "fine-tuned or merged"
RELATED, UNRELATED = "related", "unrelated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two models and what they are to one another; `kinship` lists every verdict that would be right.

    `base` and `path` are relative to the folder of the families.
    """

    name: str
    family: str
    base: str
    path: str
    kinship: tuple[str, ...]
    words: str


def main() -> None:
    """Train, write, and list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    start = time.perf_counter()
    chosen.out.mkdir(parents=True, exist_ok=True)
    shutil.copytree(FIXTURES / "babble" / "fp32", chosen.out / "babble" / "base", dirs_exist_ok=True)
    # Not forked: torch's threads do not survive it.
    with ProcessPoolExecutor(chosen.workers, multiprocessing.get_context("spawn")) as pool:
        trained = [training for runs in (_bases(), _others()) for training in _trained(pool, list(runs), chosen.out)]
        pairs = [pair for found in pool.map(rewrite, FAMILIES, [chosen.out] * len(FAMILIES)) for pair in found]
    pairs += _across_families()
    _write_json(chosen.out / "families.json", [asdict(pair) for pair in pairs])
    _write_json(chosen.out / "losses.json", trained)
    total = sum(file.stat().st_size for file in chosen.out.rglob("*") if file.is_file())
    print(f"{len(pairs)} pairs, {total / 1e6:.0f} MB, {time.perf_counter() - start:.0f} s")


# ---- training


def _trained(pool: ProcessPoolExecutor, runs: Sequence[Run], out: Path) -> Iterator[dict[str, object]]:
    """What the runs reached, in their order."""
    for file in pool.map(trained_once, runs, [out] * len(runs)):
        reached = json.loads(file.read_text(encoding="utf-8"))
        run = reached["run"]
        print(
            f"{run['family']:7} {run['name']:22} {run['steps']:5} steps of {run['text']:10}"
            f" held out {reached['held_out_before']:.3f} -> {reached['held_out_after']:.3f}",
            flush=True,
        )
        yield reached


def trained_once(run: Run, out: Path) -> Path:
    """Train a network unless this very run was made before, and give the file that says what it reached."""
    transformers.logging.set_verbosity_error()
    file = out / run.family / f"{run.name}.json"
    asked = json.loads(json.dumps(asdict(run)))
    if not file.exists() or json.loads(file.read_text(encoding="utf-8"))["run"] != asked:
        trained = _train_babble(run, out) if run.family == "babble" and not run.start else train(run, out)
        _write_json(file, asdict(trained))
    return file


def _bases() -> Iterator[Run]:
    for family in FAMILIES:
        if family != "babble":  # the fixture is the base
            yield Run(name="base", family=family, steps=STEPS)


def _others() -> Iterator[Run]:
    bases = {base.family: base for base in _bases()}
    for family in FAMILIES:
        base = bases.get(family, Run(name="base", family=family, steps=BABBLE_STEPS))
        for seed in TWIN_SEEDS:
            yield replace(base, name=f"twin-{seed}", seed=seed)
        yield from _tunings(family)
        if family in bases:
            yield replace(base, name="same-start-other-text", text="backwards", order=1)
            for name, sizes in OTHER_SIZES.items():
                yield replace(base, name=name, seed=2, steps=OTHER_SIZE_STEPS, sizes=tuple(sizes.items()))


def _tunings(family: str) -> Iterator[Run]:
    tuned = Run(
        name=f"tuned-{LONG_TUNING}",
        family=family,
        steps=LONG_TUNING,
        start="base",
        text="numbers",
        order=2,
        batch=TUNING_BATCH,
        peak_learning_rate=TUNING_RATE,
    )
    yield tuned
    yield replace(tuned, name=f"tuned-{SHORT_TUNING}", steps=SHORT_TUNING)
    for rank, targets in LORAS.items():
        lora = Lora(rank=rank, targets=targets)
        yield replace(tuned, name=f"lora-{rank}-f32", steps=LORA_STEPS, peak_learning_rate=LORA_RATE, lora=lora)


def _train_babble(run: Run, out: Path) -> Trained:
    """A twin of fixtures/babble: its recipe, its text, another seed."""
    from make_fixtures import BABBLE, CONTEXT, CORPUS_BYTES, CORPUS_SEED, HELD_OUT_SHARE
    from training import Corpus, evaluate, loaded
    from training import train as train_fixture

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    corpus = Corpus.made(seed=CORPUS_SEED, size=CORPUS_BYTES, held_out_share=HELD_OUT_SHARE, context=CONTEXT)
    recipe = replace(BABBLE, seed=run.seed, steps=run.steps)
    before, after = train_fixture(recipe, corpus, keep=frozenset({0, recipe.steps}))
    _, config = load(out / "babble" / "base")
    save(out / "babble" / run.name, after.weights, config)
    logged = [entry["loss"] for entry in after.log if "loss" in entry]
    held_out = [evaluate(loaded(recipe.architecture, each.weights), corpus.held_out) for each in (before, after)]
    return Trained(
        run=run,
        losses=tuple(logged[2::3]),
        held_out_before=held_out[0],
        held_out_after=held_out[1],
    )


# ---- the pairs


def rewrite(family: str, out: Path) -> list[Pair]:
    """Write everything that a base becomes without training, and list the family's pairs."""
    transformers.logging.set_verbosity_error()
    folder = out / family
    state, config = load(folder / "base")
    generator = torch.Generator().manual_seed(SHUFFLE_SEED)
    tuned, _ = load(folder / f"tuned-{LONG_TUNING}")
    gguf_state = rewritings.with_turning_pairs_side_by_side(state, config)
    gguf_tuned = rewritings.with_turning_pairs_side_by_side(tuned, config)

    def plain(name: str, made: State, dtype: torch.dtype = torch.float32) -> None:
        files.write_cast(folder / name, made, config, dtype=dtype)

    plain("bf16", state, torch.bfloat16)
    plain("fp16", state, torch.float16)
    plain("prefixed", rewritings.with_prefix(state, "base_model.model."))
    plain("hidden-permuted", rewritings.with_hidden_units_in_another_order(state, config, generator))
    plain("heads-permuted", rewritings.with_heads_in_another_order(state, config, generator))
    plain("averaged", rewritings.averaged(state, tuned))
    plain("untrained", state_of(network_of(config, seed=UNTRAINED_SEED)))
    own_start = load(FIXTURES / "babble" / "step0")[0] if family == "babble" else state_of(network_of(config, seed=1))
    plain("own-start", {name: tensor.float() for name, tensor in own_start.items()})
    for rank in LORAS:
        plain(f"lora-{rank}-bf16", load(folder / f"lora-{rank}-f32")[0], torch.bfloat16)
    files.write_shards(folder / "resharded", state, config)
    files.write_pickle(folder / "pickled" / "model.pt", rewritings.with_prefix(state, "module._orig_mod."))
    if config.model_type == "llama":
        files.write_pickle(folder / "meta-names" / "consolidated.00.pth", rewritings.with_names_of_meta(gguf_state))
    files.write_fp8(folder / "fp8", state, config)
    files.write_gptq(folder / "gptq-4", state, config)
    for kind in ("F32", "F16", "Q8_0", "Q4_0"):
        files.write_gguf(folder / f"{kind.lower()}.gguf", gguf_state, config, kind=kind)
    files.write_gguf(folder / "tuned-q8_0.gguf", gguf_tuned, config, kind="Q8_0")
    for name, blocks in _surgeries(rewritings.blocks_of(config)).items():
        sizes = {**config.to_dict(), "num_hidden_layers": len(blocks), "layer_types": None}
        changed = type(config).from_dict(sizes)
        save(folder / name, rewritings.with_blocks(state, config, blocks), changed)
    return [pair for pair in _pairs(family) if (out / pair.base).exists() and (out / pair.path).exists()]


def _surgeries(blocks: int) -> dict[str, list[int]]:
    """Which blocks a pruned and a grown network are made of: a third left out in the middle, or put in twice."""
    third = max(1, blocks // 3)
    before, after = list(range(blocks)), list(range(third, blocks))
    return {"pruned": before[:third] + before[2 * third :], "grown": before[: 2 * third] + after}


def _pairs(family: str) -> Iterator[Pair]:
    def to_base(name: str, *kinship: str, words: str) -> Pair:
        return Pair(
            name=name, family=family, base=f"{family}/base", path=f"{family}/{name}", kinship=kinship, words=words
        )

    yield to_base("resharded", SAME, words="three shards with an index")
    yield to_base("prefixed", SAME, words="names behind base_model.model.")
    yield to_base("pickled", SAME, words="a file of torch.save, names behind module._orig_mod.")
    yield to_base("meta-names", SAME, words="Meta's names, rows of queries and keys in Meta's order")
    yield to_base("f32.gguf", SAME, words="GGUF in float32")
    yield to_base("f16.gguf", SAME, words="GGUF in float16")
    yield to_base("bf16", SAME, words="rounded to bfloat16")
    yield to_base("fp16", SAME, words="rounded to float16")
    yield to_base("hidden-permuted", SAME, words="hidden units of the MLPs in another order")
    yield to_base("heads-permuted", SAME, words="attention heads in another order")
    yield to_base("fp8", QUANTISED, words="FP8 with a scale for each matrix")
    yield to_base("q8_0.gguf", QUANTISED, words="GGUF in Q8_0")
    yield to_base("q4_0.gguf", QUANTISED, words="GGUF in Q4_0")
    yield to_base("gptq-4", QUANTISED, words="four bits, packed as AutoGPTQ does")
    for rank in LORAS:
        for dtype in ("f32", "bf16"):
            yield to_base(f"lora-{rank}-{dtype}", FINE_TUNED, words=f"LoRA of rank {rank} merged, in {dtype}")
    for steps in (SHORT_TUNING, LONG_TUNING):
        yield to_base(f"tuned-{steps}", FINE_TUNED, words=f"fine-tuned for {steps:,} steps on other text")
    yield to_base("averaged", FINE_TUNED, words=f"mean of the base and its fine-tune of {LONG_TUNING:,} steps")
    yield to_base("tuned-q8_0.gguf", FINE_TUNED, QUANTISED, words="fine-tuned, then GGUF in Q8_0")
    yield to_base("pruned", RELATED, words="a third of the blocks left out")
    yield to_base("grown", RELATED, words="a third of the blocks put in twice")
    yield to_base("same-start-other-text", RELATED, words="the same initialisation, trained apart on other text")
    yield to_base("own-start", RELATED, FINE_TUNED, words="the initialisation that it was trained from")
    yield to_base("untrained", UNRELATED, words="the same shapes, never trained")
    for name in OTHER_SIZES:
        yield to_base(name, UNRELATED, words=f"independent, of {name.replace('-', ' ')}")
    independent = ["base", *(f"twin-{seed}" for seed in TWIN_SEEDS)]
    for at, one in enumerate(independent):
        for other in independent[at + 1 :]:
            yield Pair(
                name=f"{one} and {other}",
                family=family,
                base=f"{family}/{one}",
                path=f"{family}/{other}",
                kinship=(UNRELATED,),
                words="twins: the same recipe and text, another seed",
            )
    for name in ("bf16", "gptq-4", "q4_0.gguf"):
        yield Pair(
            name=f"twin-{TWIN_SEEDS[0]} and {name}",
            family=family,
            base=f"{family}/twin-{TWIN_SEEDS[0]}",
            path=f"{family}/{name}",
            kinship=(UNRELATED,),
            words="twins, one of them in another format",
        )


def _across_families() -> Iterator[Pair]:
    for at, one in enumerate(FAMILIES):
        for other in FAMILIES[at + 1 :]:
            yield Pair(
                name=f"{one} and {other}",
                family="across",
                base=f"{one}/base",
                path=f"{other}/base",
                kinship=(UNRELATED,),
                words="another architecture, trained on the same text",
            )


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
