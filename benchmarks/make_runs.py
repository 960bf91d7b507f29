"""Train small networks and keep what a trainer keeps on the way, with the truth about each run beside it.

    python -m venv torchenv
    torchenv/bin/pip install torch==2.13.0 transformers==5.23.0 safetensors scikit-learn numpy
    torchenv/bin/python benchmarks/make_runs.py --out FOLDER [--only NAME ...]

FOLDER/RUN/checkpoint-N holds what transformers' Trainer leaves: model.safetensors, config.json, optimizer.pt and
trainer_state.json. FOLDER/RUN/truth.json holds what no checkpoint tells: the settings, the squared norm of every
parameter each ten steps, and for every pair of sides that a rescaling joins what decay took from it and what the steps
added to it, as means over the last fifth of the steps before a checkpoint.

Each healthy run is spoiled too: FOLDER/RUN/spoiled-FAULT is its last checkpoint with one thing made wrong, which
fault.json there names: entries of the optimizer swapped, an optimizer of an earlier checkpoint, learning rates or
weight decay that are not those of the run, weights that were drawn anew or scaled.

Language models learn the next byte of the sources of Python's own standard library, perceptrons and convolutions the
digits of scikit-learn. A run that is there already is left alone. All of them take about 15 minutes of one core.
"""

import argparse
import json
import math
import shutil
import sysconfig
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

VOCABULARY = 128  # bytes of ASCII
CONTEXT, SENTENCES = 32, 16  # a batch of text
IMAGES = 32  # a batch of digits
HEAD = 16  # size of a head of attention
TEXT_BYTES = 2_000_000
LOOK_EVERY = 10
WINDOW = 0.2  # of the steps before a checkpoint, over which the truth is a mean
WARMUP, FINAL_SHARE = 0.05, 0.1
DROP_AT, DROP_TO = 0.6, 0.1
LATE = 0.9  # of the steps: when a parameter is thawed, or drawn anew
SLOWLY = 0.1  # of the rate of all others
EPSILON = 1e-8  # AdamW's
MOMENTS = (0.02, 0.06, 0.2, 0.4, 0.6, 0.62, 0.8, 0.92, 1.0)  # of the steps, when a checkpoint is kept

State = dict[str, object]  # an optimizer's, as PyTorch saves it
Sides = Callable[[Mapping[str, Tensor]], tuple[Tensor, Tensor]]
Batch = Mapping[str, Tensor]


class Schedule(StrEnum):
    """How the learning rate goes."""

    CONSTANT = "constant"
    COSINE = "cosine"  # after a warm-up, down to a tenth
    LINEAR = "linear"  # down to nothing
    DROP = "drop"  # to a tenth at once


class Method(StrEnum):
    """The optimizers."""

    ADAMW = "adamw"
    ADAM_L2 = "adam_l2"
    SGD = "sgd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run.

    `slow`, `frozen`, `thawed` and `redrawn` are parts of the names of parameters that learn at a tenth of the rate,
    that are not trained, not before nine tenths of the steps, or that are drawn anew then; empty for none.
    `start` is the standard deviation of the initial weights of a language model.
    """

    name: str
    network: str
    seed: int
    steps: int
    rate: float
    decay: float
    width: int = 64
    depth: int = 2
    schedule: Schedule = Schedule.CONSTANT
    method: Method = Method.ADAMW
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.0
    clip: float | None = 1.0
    start: float = 0.02
    slow: str = ""
    frozen: str = ""
    thawed: str = ""
    redrawn: str = ""

    @property
    def age(self) -> float:
        """Roughly, for the list of runs."""
        return sum(self.share(step) for step in range(self.steps)) * self.rate * self.decay

    def share(self, step: int) -> float:
        """The part of the learning rate that a step is made with."""
        done, warm = step / self.steps, round(WARMUP * self.steps)
        match self.schedule:
            case Schedule.CONSTANT:
                return 1.0
            case Schedule.LINEAR:
                return 1 - done
            case Schedule.DROP:
                return 1.0 if done < DROP_AT else DROP_TO
            case Schedule.COSINE:
                if step < warm:
                    return (step + 1) / warm
                wave = (1 + math.cos(math.pi * (step - warm) / (self.steps - warm))) / 2
                return FINAL_SHARE + (1 - FINAL_SHARE) * wave

    @property
    def is_by_the_book(self) -> bool:
        """Whether all that is written down of the run is so, and weight decay acts on a whole network."""
        odd = self.slow or self.frozen or self.thawed or self.redrawn or self.network == "lora"
        return self.method is not Method.ADAM_L2 and self.decay > 0 and not odd

    @property
    def moments(self) -> tuple[int, ...]:
        """The steps at which a checkpoint is kept."""
        return (0, *sorted({max(1, round(moment * self.steps)) for moment in MOMENTS}))


BETAS95 = (0.9, 0.95)
COSINE, LINEAR, DROP = Schedule.COSINE, Schedule.LINEAR, Schedule.DROP
SGD = Method.SGD


def _plan(name: str, network: str, seed: int, steps: int, **others: Any) -> Plan:  # noqa: ANN401 - Plan's own types
    return Plan(name=name, network=network, seed=seed, steps=steps, **others)


PLANS = (
    _plan("llama-constant-a", "llama", 1, 2400, rate=3e-3, decay=0.3),
    _plan("llama-constant-b", "llama", 2, 2000, rate=3e-3, decay=1.0, betas=BETAS95),
    _plan("llama-constant-c", "llama", 3, 2400, rate=4e-3, decay=0.3, width=32, clip=None),
    _plan("lora-trained", "lora", 37, 400, rate=2e-3, decay=0.01),
    _plan("lora-frozen-a", "lora", 38, 400, rate=2e-3, decay=0.01, frozen="lora_A"),
    _plan("relu-constant-a", "relu", 26, 4000, rate=2e-3, decay=0.4),
    _plan("relu-constant-b", "relu", 27, 5000, rate=1e-3, decay=0.6, width=32, depth=3),
    _plan("relu-cosine", "relu", 28, 4000, rate=3e-3, decay=0.5, schedule=COSINE),
    _plan("relu-drop", "relu", 29, 4000, rate=2e-3, decay=0.7, schedule=DROP),
    _plan("relu-no-decay", "relu", 30, 2000, rate=1e-3, decay=0.0),
    _plan("linear-sgd-slow", "linear", 31, 4000, rate=5e-3, decay=5e-3, method=SGD, clip=None),
    _plan("linear-sgd-fast", "linear", 32, 4000, rate=0.05, decay=5e-3, method=SGD, clip=None),
    _plan("relu-sgd", "relu", 33, 4000, rate=0.02, decay=5e-3, method=SGD, clip=None),
    _plan("relu-sgd-momentum", "relu", 34, 4000, rate=5e-3, decay=5e-3, method=SGD, momentum=0.9, clip=None),
    _plan("llama-cosine-a", "llama", 4, 1600, rate=5e-3, decay=0.6, schedule=COSINE),
    _plan("opt-constant", "opt", 17, 1200, rate=4e-3, decay=0.5),
    _plan("llama-drop", "llama", 7, 1600, rate=5e-3, decay=0.5, schedule=DROP),
    _plan("neox-constant", "gpt_neox", 15, 1200, rate=4e-3, decay=0.5, width=32),
    _plan("llama-young", "llama", 8, 600, rate=2e-3, decay=0.01, betas=BETAS95),
    _plan("qwen3-constant", "qwen3", 12, 1200, rate=4e-3, decay=0.5),
    _plan("llama-linear", "llama", 6, 1500, rate=5e-3, decay=0.6, schedule=LINEAR),
    _plan("resnet-constant", "resnet", 35, 1000, rate=4e-3, decay=0.6, width=16),
    _plan("llama-slow-block", "llama", 22, 1000, rate=4e-3, decay=0.5, slow="layers.1.mlp"),
    _plan("llama-thawed", "llama", 24, 1000, rate=4e-3, decay=0.5, thawed="layers.1.mlp.up"),
    _plan("llama-cosine-b", "llama", 5, 1400, rate=3e-3, decay=0.3, schedule=COSINE, betas=BETAS95),
    _plan("gpt2-linear", "gpt2", 16, 1400, rate=5e-3, decay=0.5, schedule=LINEAR),
    _plan("neox-cosine", "gpt_neox", 14, 1400, rate=4e-3, decay=0.6, schedule=COSINE, betas=BETAS95),
    _plan("llama-no-decay", "llama", 9, 800, rate=2e-3, decay=0.0),
    _plan("opt-drop", "opt", 18, 1400, rate=4e-3, decay=0.6, schedule=DROP),
    _plan("llama-redrawn", "llama", 25, 1000, rate=4e-3, decay=0.5, redrawn="embed_tokens"),
    _plan("llama-frozen", "llama", 23, 1000, rate=4e-3, decay=0.5, frozen="layers.0.mlp.down"),
    _plan("llama-sgd", "llama", 21, 800, rate=0.5, decay=2e-3, method=SGD),
    _plan("llama-adam-l2", "llama", 20, 500, rate=2e-3, decay=0.01, method=Method.ADAM_L2),
    _plan("qwen3-cosine", "qwen3", 13, 1400, rate=5e-3, decay=0.5, schedule=COSINE),
    _plan("resnet-cosine", "resnet", 36, 1000, rate=5e-3, decay=0.6, width=16, schedule=COSINE),
    _plan("llama-deep", "llama", 11, 1200, rate=4e-3, decay=0.4, width=32, depth=4, betas=BETAS95),
    _plan("llama-wide", "llama", 10, 800, rate=4e-3, decay=0.7, width=96, schedule=COSINE, betas=BETAS95),
)
# The same runs from weights that are three times as large: what is left of the difference is what a run remembers.
LARGER = 3.0
WITH_LARGER_START = ("neox-constant", "llama-cosine-b", "opt-constant", "llama-cosine-a")
PLANS += tuple(
    replace(plan, name=f"{plan.name}-large-start", start=LARGER * plan.start)
    for plan in PLANS
    if plan.name in WITH_LARGER_START
)


def main() -> None:
    """Train what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[plan.name for plan in PLANS])
    parser.add_argument("--reseed", type=int, default=0, help="added to every seed: other starts, on other batches")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for plan in (replace(plan, seed=plan.seed + chosen.reseed) for plan in PLANS):
        if plan.name in chosen.only and not (chosen.out / plan.name / "truth.json").exists():
            began = time.process_time()
            told = train(plan, chosen.out / plan.name)
            print(f"{plan.name:32} age {plan.age:5.2f}  {told}  {time.process_time() - began:4.0f} s", flush=True)
        if plan.name in chosen.only and plan.is_by_the_book:
            spoil(plan, chosen.out / plan.name)


def train(plan: Plan, out: Path) -> str:
    """Train one network, keep its checkpoints and its truth, and say what it reached."""
    torch.manual_seed(plan.seed)
    network = NETWORKS[plan.network](plan)
    batches = torch.Generator().manual_seed(1000 + plan.seed)
    optimizer = _optimizer(plan, network)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, plan.share)
    truth = Truth(plan=plan, network=network, optimizer=optimizer)
    log: list[dict[str, float]] = []
    losses: list[float] = []
    truth.look(0)
    _save(out / "checkpoint-0", plan, network, optimizer, log)
    for step in range(1, plan.steps + 1):
        loss = network(**batch_of(plan, batches)).loss
        optimizer.zero_grad()
        loss.backward()
        _step(plan, network, optimizer, step)
        losses.append(loss.item())
        if step % LOOK_EVERY == 0 or step in plan.moments:
            truth.look(step)
        scheduler.step()
        if step % LOOK_EVERY == 0:
            log.append(
                {
                    "epoch": step / EPOCH,
                    "learning_rate": scheduler.get_last_lr()[0],
                    "loss": sum(losses[-LOOK_EVERY:]) / LOOK_EVERY,
                    "step": step,
                }
            )
        if step in plan.moments:
            _save(out / f"checkpoint-{step}", plan, network, optimizer, log)
    (out / "truth.json").write_text(json.dumps(truth.told()))
    return f"loss {losses[0]:.3f} -> {sum(losses[-100:]) / 100:.3f}"


def _step(plan: Plan, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Make one step, and what goes on behind the back of the optimizer, whose file will not tell."""
    named, late = dict(network.named_parameters()), round(LATE * plan.steps)
    for name, parameter in named.items():
        if _is_meant(plan.thawed, name) and step <= late:
            parameter.grad = None
    if plan.clip is not None:
        nn.utils.clip_grad_norm_(named.values(), plan.clip)
    slow = [(each, each.detach().clone()) for name, each in named.items() if _is_meant(plan.slow, name)]
    optimizer.step()
    with torch.no_grad():
        for parameter, before in slow:
            parameter.copy_(before.lerp(parameter, SLOWLY))
        for name, parameter in named.items():
            if _is_meant(plan.redrawn, name) and step == late:
                parameter.normal_(std=plan.start)


EPOCH = 1000  # steps; data are drawn with replacement, so that it is a name for a number of steps


def _optimizer(plan: Plan, network: nn.Module) -> torch.optim.Optimizer:
    """Groups as transformers' Trainer makes them: what decays, and gains and biases that do not."""
    for name, each in network.named_parameters():
        each.requires_grad_(not _is_meant(plan.frozen, name))
    named = [(name, each) for name, each in network.named_parameters() if each.requires_grad]
    if plan.network in {"relu", "linear"}:
        groups = [{"params": named, "weight_decay": plan.decay}]  # one group, as beginners have
    else:
        groups = [
            {"params": [(name, each) for name, each in named if each.ndim > 1], "weight_decay": plan.decay},
            {"params": [(name, each) for name, each in named if each.ndim <= 1], "weight_decay": 0.0},
        ]
    groups = [group for group in groups if group["params"]]
    # The Trainer gives no names. Without them nobody could tell what was frozen, nor the order of a ResNet.
    if not plan.frozen and plan.network != "resnet":
        groups = [{**group, "params": [each for _, each in group["params"]]} for group in groups]
    match plan.method:
        case Method.SGD:
            return torch.optim.SGD(groups, lr=plan.rate, momentum=plan.momentum)
        case Method.ADAM_L2:
            return torch.optim.Adam(groups, lr=plan.rate, betas=plan.betas)
        case Method.ADAMW:
            return torch.optim.AdamW(groups, lr=plan.rate, betas=plan.betas, eps=EPSILON, fused=True)


def _is_meant(part: str, name: str) -> bool:
    return bool(part) and part in name


def _save(folder: Path, plan: Plan, network: nn.Module, optimizer: torch.optim.Optimizer, log: Sequence) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(network, transformers.PreTrainedModel):
        network.save_pretrained(folder)
    else:
        network.save(folder)
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")
    step = int(folder.name.rpartition("-")[2])
    state = {
        "best_metric": None,
        "epoch": step / EPOCH,
        "global_step": step,
        "is_world_process_zero": True,
        "log_history": list(log),
        "logging_steps": LOOK_EVERY,
        "max_steps": plan.steps,
        "num_train_epochs": math.ceil(plan.steps / EPOCH),
        "train_batch_size": SENTENCES,
    }
    (folder / "trainer_state.json").write_text(json.dumps(state, indent=1))


# ---- what goes wrong

ATTENTION_PAIRS = tuple(
    f"block {block}, {pair}" for block in (0, 1) for pair in ("value/output", "query/key", "query/key, not rotated")
)
# Tensors whose entries in the optimizer are swapped, and the pairs that this must show in.
SWAPS: Mapping[str, tuple[str, str, tuple[str, ...]]] = {
    "gate-up": ("layers.0.mlp.gate_proj.weight", "layers.0.mlp.up_proj.weight", ("block 0, up/down",)),
    "key-value": (
        "layers.0.self_attn.k_proj.weight",
        "layers.0.self_attn.v_proj.weight",
        ("block 0, value/output", "block 0, query/key"),
    ),
    "query-query": (
        "layers.0.self_attn.q_proj.weight",
        "layers.1.self_attn.q_proj.weight",
        ("block 0, query/key", "block 1, query/key"),
    ),
    "up-up": (
        "layers.0.mlp.up_proj.weight",
        "layers.1.mlp.up_proj.weight",
        ("block 0, up/down", "block 1, up/down"),
    ),
    "fc-fc": (
        "layers.0.fc1.weight",
        "layers.1.fc1.weight",
        ("block 0, ReLU neurons", "block 1, ReLU neurons"),
    ),
    "qkv-qkv": (
        "layers.0.attention.query_key_value.weight",
        "layers.1.attention.query_key_value.weight",
        ATTENTION_PAIRS,
    ),
    "attn-attn": (
        "h.0.attn.c_attn.weight",
        "h.1.attn.c_attn.weight",
        ATTENTION_PAIRS,
    ),
    "first-second": (
        "layers.0.weight",
        "layers.1.weight",
        ("'layers.0' / 'layers.1'", "'layers.1' / 'layers.2'"),
    ),
}
EVERY_PAIR = "*"
STALE = 0.4  # of the steps: whose optimizer is taken for the last one
SCALES_OF_RATES = {"rates-halved": 0.5, "rates-doubled": 2.0}
SCALES_OF_DECAY = {"decay-third": 1 / 3, "decay-tripled": 3.0}
# Tensors that are drawn anew after training, and the pairs that this must show in.
REDRAWN: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "down-redrawn": ("layers.0.mlp.down_proj.weight", ("block 0, up/down",)),
    "embedding-redrawn": ("embed_tokens.weight", ()),
}
SCALED = {"writes-doubled": 2.0}
WRITES = ("embed_tokens.weight", "o_proj.weight", "down_proj.weight")


def spoil(plan: Plan, run: Path) -> None:
    """Write the last checkpoint again, once for everything that can be made wrong about it."""
    last = run / f"checkpoint-{plan.steps}"
    state = torch.load(last / "optimizer.pt", weights_only=True)
    for fault, factor in SCALES_OF_DECAY.items():
        _spoiled(run, fault, optimizer=_regrouped(state, ("weight_decay",), factor), decay=factor)
    if plan.method is Method.ADAMW:
        _spoil_adamw(plan, run, state)


def _spoil_adamw(plan: Plan, run: Path, state: State) -> None:
    network = NETWORKS[plan.network](plan)
    names = _names_by_index(_optimizer(plan, network), network)
    _spoiled(run, "named", optimizer=_named(state, names))
    for fault, (first, second, rows) in SWAPS.items():
        at = [index for index, name in enumerate(names) if name.endswith((first, second))]
        if len(at) == 2 and _shape(state, at[0]) == _shape(state, at[1]):  # noqa: PLR2004 - two of them
            entries = {**state["state"], at[0]: state["state"][at[1]], at[1]: state["state"][at[0]]}
            swapped = {**state, "state": entries}
            _spoiled(run, fault, optimizer=_named(swapped, names), pairs=rows)
            _spoiled(run, f"{fault}-unnamed", optimizer=swapped, pairs=rows)
    stale = torch.load(run / f"checkpoint-{round(STALE * plan.steps)}" / "optimizer.pt", weights_only=True)
    _spoiled(run, "stale", optimizer=_named(stale, names), pairs=(EVERY_PAIR,))
    for fault, factor in SCALES_OF_RATES.items():
        _spoiled(run, fault, optimizer=_regrouped(state, ("lr", "initial_lr"), factor), rates=factor)
    weights = load_file(run / f"checkpoint-{plan.steps}" / "model.safetensors")
    draws = torch.Generator().manual_seed(plan.seed)
    for fault, (name, rows) in REDRAWN.items():
        drawn = {
            each: plan.start * torch.randn(old.shape, generator=draws) if each.endswith(name) else old
            for each, old in weights.items()
        }
        if any(each.endswith(name) for each in weights):
            _spoiled(run, fault, optimizer=_named(state, names), weights=drawn, pairs=rows)
    for fault, factor in SCALED.items():
        if any(name.endswith(WRITES) for name in weights):
            scaled = {name: old * factor if name.endswith(WRITES) else old for name, old in weights.items()}
            _spoiled(run, fault, optimizer=_named(state, names), weights=scaled)


def _names_by_index(optimizer: torch.optim.Optimizer, network: nn.Module) -> list[str]:
    name_of = {id(parameter): name for name, parameter in network.named_parameters()}
    return [name_of[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _shape(state: State, index: int) -> torch.Size:
    return state["state"][index]["exp_avg"].shape


def _named(state: State, names: Sequence[str]) -> State:
    groups = [{**group, "param_names": [names[index] for index in group["params"]]} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def _regrouped(state: State, keys: Sequence[str], factor: float) -> State:
    groups = [{**group, **{key: group[key] * factor for key in keys}} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def _spoiled(
    run: Path,
    fault: str,
    *,
    optimizer: State,
    weights: Mapping[str, Tensor] | None = None,
    rates: float = 1.0,
    decay: float = 1.0,
    pairs: Sequence[str] = (),
) -> None:
    """Write a spoiled checkpoint; what stays as it was is linked."""
    last = max(run.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]))
    folder = run / f"spoiled-{fault}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    torch.save(optimizer, folder / "optimizer.pt")
    (folder / "config.json").hardlink_to(last / "config.json")
    if weights is None:
        (folder / "model.safetensors").hardlink_to(last / "model.safetensors")
    else:
        save_file(dict(weights), folder / "model.safetensors")
    trainer = json.loads((last / "trainer_state.json").read_text())
    for line in trainer["log_history"]:
        line["learning_rate"] *= rates
    (folder / "trainer_state.json").write_text(json.dumps(trainer))
    written = load_file(folder / "model.safetensors")
    squares = {name: each.double().square().sum().item() for name, each in written.items()}
    told = {"fault": fault, "rates": rates, "decay": decay, "pairs": list(pairs), "squares": squares}
    (folder / "fault.json").write_text(json.dumps(told))


# ---- the truth


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A moment of a run: squared norms of its parameters, and what stands on both sides of its pairs.

    `noise` is sqrt(v), `decayed` is decay * sqrt(v) * w^2, `added` what this step added to sqrt(v) * w^2 beside decay,
    each the plus side minus the minus side of every channel; `decayed` and `added` are of one step.
    """

    step: int
    rate: float
    squares: Mapping[str, float]
    noise: Mapping[str, Tensor]
    decayed: Mapping[str, Tensor]
    added: Mapping[str, Tensor]


class Truth:
    """What is written down of a run while it goes on."""

    def __init__(self, *, plan: Plan, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Begin with nothing."""
        self.plan, self.network, self.optimizer = plan, network, optimizer
        self.sides = sides_of(plan)
        self.looks: list[Look] = []

    @torch.no_grad()
    def look(self, step: int) -> None:
        """Write down the present state, after a step and before the schedule moves on."""
        named = dict(self.network.named_parameters())
        densities: dict[str, dict[str, Tensor]] = {"noise": {}, "decayed": {}, "added": {}}
        if step and self.plan.method is Method.ADAMW and self.sides:
            for group in self.optimizer.param_groups:
                for parameter in group["params"]:
                    name = next(each for each, own in named.items() if own is parameter)
                    for density, values in self._densities(parameter, group).items():
                        densities[density][name] = values
        joint: dict[str, dict[str, Tensor]] = {
            density: {
                subject: plus - minus
                for subject, sides in self.sides.items()
                for plus, minus in [sides(defaultdict(_nothing, values))]
            }
            if values
            else {}
            for density, values in densities.items()
        }
        self.looks.append(
            Look(
                step=step,
                rate=self.optimizer.param_groups[0]["lr"],
                squares={name: parameter.double().square().sum().item() for name, parameter in named.items()},
                **joint,
            )
        )

    def _densities(self, parameter: Tensor, group: Mapping[str, float]) -> dict[str, Tensor]:
        state = self.optimizer.state.get(parameter)
        if not state:  # it has not been updated yet
            nothing = torch.zeros_like(parameter, dtype=torch.float64)
            return {"noise": nothing, "decayed": nothing, "added": nothing}
        beta1, beta2 = self.plan.betas
        updates, rate, decay = float(state["step"]), group["lr"], group["weight_decay"]
        root = (state["exp_avg_sq"].double() / (1 - beta2**updates)).sqrt() + EPSILON
        step = state["exp_avg"].double() / (1 - beta1**updates) / root
        after = parameter.double()
        before = (after + rate * step) / (1 - rate * decay)
        return {
            "noise": root,
            "decayed": decay * root * after.square(),
            "added": root * (rate * step * (rate * step - 2 * before)),
        }

    def told(self) -> dict[str, object]:
        """All of it, for a file."""
        plan = asdict(self.plan)
        return {
            "plan": plan,
            "looks": [{"step": look.step, "rate": look.rate, "squares": look.squares} for look in self.looks],
            "pairs": {
                step: {subject: self._pair(step, subject) for subject in self.sides}
                for step in self.plan.moments
                if step and self.plan.method is Method.ADAMW
            },
        }

    def _pair(self, step: int, subject: str) -> dict[str, list[float]]:
        """Means over the window before a step, channel by channel, and what the step itself did."""
        start = (1 - WINDOW) * step
        if self.plan.schedule is Schedule.DROP and step > DROP_AT * self.plan.steps:
            start = max(start, DROP_AT * self.plan.steps + 1)
        window = [look for look in self.looks if start <= look.step <= step and look.noise]
        return {
            "noise": _mean([look.noise[subject] for look in window]),
            "noise_by_rate": _mean([look.rate * look.noise[subject] for look in window]),
            "taken": _mean([2 * look.rate * look.decayed[subject] for look in window]),
            "decayed": _mean([2 * look.decayed[subject] for look in window]),
            "added": _mean([look.added[subject] for look in window]),
        }


def _nothing() -> Tensor:
    return torch.zeros(1, 1, dtype=torch.float64)


def _mean(values: Sequence[Tensor]) -> list[float]:
    return torch.stack(list(values)).mean(0).tolist()


def sides_of(plan: Plan) -> dict[str, Sides]:
    """What stands on both sides of each pair, written for these networks alone; empty where it was not."""
    match plan.network:
        case "llama":
            return {
                subject: sides
                for block in range(plan.depth)
                for subject, sides in _of_llama(f"model.layers.{block}.", f"block {block}", plan).items()
            } | {"final norm / head": lambda of: (of["model.norm.weight"], of["lm_head.weight"].sum(0))}
        case "opt":
            return {
                subject: sides
                for block in range(plan.depth)
                for subject, sides in _of_opt(f"model.decoder.layers.{block}.", f"block {block}").items()
            }
        case "relu" | "linear":
            return {
                f"layers.{at} / layers.{at + 1}": lambda of, at=at: (
                    of[f"layers.{at}.weight"].sum(1) + (of[f"layers.{at}.bias"] if plan.network == "relu" else 0),
                    of[f"layers.{at + 1}.weight"].sum(0),
                )
                for at in range(plan.depth)
            }
    return {}


def _of_llama(prefix: str, block: str, plan: Plan) -> dict[str, Sides]:
    queries = plan.width // HEAD
    keys = queries // 2
    attention, mlp = f"{prefix}self_attn.", f"{prefix}mlp."

    def rotary(of: Tensor, heads: int) -> Tensor:
        return of.sum(1).view(keys, heads // keys, 2, HEAD // 2).sum((1, 2)).flatten()

    return {
        f"{block}, up/down": lambda of: (of[f"{mlp}up_proj.weight"].sum(1), of[f"{mlp}down_proj.weight"].sum(0)),
        f"{block}, value/output": lambda of: (
            of[f"{attention}v_proj.weight"].sum(1),
            of[f"{attention}o_proj.weight"].sum(0).view(keys, queries // keys, HEAD).sum(1).flatten(),
        ),
        f"{block}, query/key": lambda of: (
            rotary(of[f"{attention}q_proj.weight"], queries),
            rotary(of[f"{attention}k_proj.weight"], keys),
        ),
        f"{block}, input_layernorm / its readers": lambda of: (
            of[f"{prefix}input_layernorm.weight"],
            sum(of[f"{attention}{each}_proj.weight"].sum(0) for each in "qkv"),
        ),
        f"{block}, post_attention_layernorm / its readers": lambda of: (
            of[f"{prefix}post_attention_layernorm.weight"],
            of[f"{mlp}up_proj.weight"].sum(0) + of[f"{mlp}gate_proj.weight"].sum(0),
        ),
    }


def _of_opt(prefix: str, block: str) -> dict[str, Sides]:
    attention = f"{prefix}self_attn."

    def outputs(of: Mapping[str, Tensor], name: str) -> Tensor:
        return of[f"{name}.weight"].sum(1) + of[f"{name}.bias"]

    def normed(of: Mapping[str, Tensor], name: str, readers: Sequence[str]) -> tuple[Tensor, Tensor]:
        return of[f"{name}.weight"] + of[f"{name}.bias"], sum(of[f"{each}.weight"].sum(0) for each in readers)

    return {
        f"{block}, ReLU neurons": lambda of: (outputs(of, f"{prefix}fc1"), of[f"{prefix}fc2.weight"].sum(0)),
        f"{block}, value/output": lambda of: (
            outputs(of, f"{attention}v_proj"),
            of[f"{attention}out_proj.weight"].sum(0),
        ),
        f"{block}, query/key": lambda of: (outputs(of, f"{attention}q_proj"), outputs(of, f"{attention}k_proj")),
        f"{block}, self_attn_layer_norm / its readers": lambda of: normed(
            of, f"{prefix}self_attn_layer_norm", [f"{attention}{each}_proj" for each in "qkv"]
        ),
        f"{block}, final_layer_norm / its readers": lambda of: normed(
            of, f"{prefix}final_layer_norm", [f"{prefix}fc1"]
        ),
    }


# ---- what they learn


def batch_of(plan: Plan, generator: torch.Generator) -> Batch:
    """Draw a batch of what a network learns from."""
    if plan.network in {"llama", "qwen3", "gpt_neox", "gpt2", "opt"}:
        starts = torch.randint(len(text()) - CONTEXT, (SENTENCES, 1), generator=generator)
        tokens = text()[starts + torch.arange(CONTEXT)]
        return {"input_ids": tokens, "labels": tokens}
    images, labels = digits()
    if (
        plan.network == "resnet"
    ):  # so that its last feature maps are no single pixel, which most of a filter never meets
        images = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    chosen = torch.randint(len(labels), (IMAGES,), generator=generator)
    return {"pixel_values": images[chosen], "labels": labels[chosen]}


@cache
def text() -> Tensor:
    """The sources of Python's standard library, one ASCII byte after the other."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    joined = bytearray(b"".join(path.read_bytes() for path in files)[:TEXT_BYTES])
    data = torch.frombuffer(joined, dtype=torch.uint8).long()
    return data[data < VOCABULARY]


@cache
def digits() -> tuple[Tensor, Tensor]:
    """The images of scikit-learn's digits, of mean 0 and variance 1, and what they show."""
    from sklearn.datasets import load_digits

    told = load_digits()
    images = torch.from_numpy(told.images).float()[:, None]
    return (images - images.mean()) / images.std(), torch.from_numpy(told.target)


# ---- the networks


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What a network says of a batch."""

    loss: Tensor


class Perceptron(nn.Module):
    """Matrices one after the other, with a ReLU and biases between them or with nothing."""

    def __init__(self, plan: Plan) -> None:
        """Draw it as PyTorch does."""
        super().__init__()
        self.is_linear = plan.network == "linear"
        widths = [64, *[plan.width] * plan.depth, 10]
        self.layers = nn.ModuleList(
            nn.Linear(first, second, bias=not self.is_linear) for first, second in pairwise(widths)
        )

    def forward(self, pixel_values: Tensor, labels: Tensor) -> Reached:
        """Guess the digits."""
        hidden = pixel_values.flatten(1)
        for at, layer in enumerate(self.layers):
            hidden = layer(hidden)
            if not self.is_linear and at + 1 < len(self.layers):
                hidden = hidden.relu()
        return Reached(loss=functional.cross_entropy(hidden, labels, label_smoothing=0.1))

    def save(self, folder: Path) -> None:
        """Write it down."""
        save_file(self.state_dict(), folder / "model.safetensors")
        activation = "linear" if self.is_linear else "relu"
        (folder / "config.json").write_text(json.dumps({"activation": activation}))


class Adapted(nn.Module):
    """A fixed random matrix with a low-rank adapter, named as PEFT names one."""

    RANK, ALPHA = 8, 16

    def __init__(self, _: Plan) -> None:
        """Draw it as PEFT does: A as PyTorch draws matrices, B of zeros."""
        super().__init__()
        self.register_buffer("matrix", torch.randn(10, 64) / 8)
        down, up = nn.Linear(64, self.RANK, bias=False), nn.Linear(self.RANK, 10, bias=False)
        nn.init.zeros_(up.weight)
        layer = nn.ModuleDict({"lora_A": down, "lora_B": up})
        self.base_model = nn.ModuleDict({"model": nn.ModuleDict({"layers": nn.ModuleList([layer])})})

    def forward(self, pixel_values: Tensor, labels: Tensor) -> Reached:
        """Guess the digits."""
        layer, images = self.base_model["model"]["layers"][0], pixel_values.flatten(1)
        added = layer["lora_B"](layer["lora_A"](images)) * self.ALPHA / self.RANK
        return Reached(loss=functional.cross_entropy(images @ self.matrix.T + added, labels, label_smoothing=0.1))

    def save(self, folder: Path) -> None:
        """Write the adapter down."""
        weights = {name: each.detach().contiguous() for name, each in self.named_parameters()}
        save_file(weights, folder / "adapter_model.safetensors")
        config = {"peft_type": "LORA", "r": self.RANK, "lora_alpha": self.ALPHA, "target_modules": ["layers.0"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))


def _common(plan: Plan) -> dict[str, object]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": plan.width,
        "num_hidden_layers": plan.depth,
        "num_attention_heads": plan.width // HEAD,
        "max_position_embeddings": CONTEXT,
        "initializer_range": plan.start,
        "init_std": plan.start,
        "tie_word_embeddings": False,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }


def _causal(config: transformers.PretrainedConfig) -> nn.Module:
    return transformers.AutoModelForCausalLM.from_config(config)


def _llama(plan: Plan) -> nn.Module:
    sizes = {"intermediate_size": 2 * plan.width, "num_key_value_heads": plan.width // HEAD // 2}
    return _causal(transformers.LlamaConfig(**_common(plan), **sizes))


def _qwen3(plan: Plan) -> nn.Module:
    sizes = {"intermediate_size": 2 * plan.width, "num_key_value_heads": plan.width // HEAD // 2, "head_dim": HEAD}
    return _causal(transformers.Qwen3Config(**_common(plan), **sizes))


def _neox(plan: Plan) -> nn.Module:
    return _causal(transformers.GPTNeoXConfig(**_common(plan), intermediate_size=2 * plan.width, rotary_pct=0.25))


def _gpt2(plan: Plan) -> nn.Module:
    dropouts = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    sizes = {"n_embd": plan.width, "n_layer": plan.depth, "n_head": plan.width // HEAD, "n_positions": CONTEXT}
    common = {key: _common(plan)[key] for key in ("vocab_size", "initializer_range", "tie_word_embeddings")}
    return _causal(transformers.GPT2Config(**common, **sizes, **dropouts, bos_token_id=None, eos_token_id=None))


def _opt(plan: Plan) -> nn.Module:
    sizes = {"ffn_dim": 2 * plan.width, "word_embed_proj_dim": plan.width, "dropout": 0.0}
    return _causal(transformers.OPTConfig(**_common(plan), **sizes))


def _resnet(plan: Plan) -> nn.Module:
    config = transformers.ResNetConfig(
        num_channels=1,
        embedding_size=plan.width,
        hidden_sizes=[plan.width, 2 * plan.width],
        depths=[1, 1],
        layer_type="basic",
        num_labels=10,
    )
    return transformers.ResNetForImageClassification(config)


NETWORKS: Mapping[str, Callable[[Plan], nn.Module]] = {
    "llama": _llama,
    "qwen3": _qwen3,
    "gpt_neox": _neox,
    "gpt2": _gpt2,
    "opt": _opt,
    "resnet": _resnet,
    "relu": Perceptron,
    "linear": Perceptron,
    "lora": Adapted,
}


if __name__ == "__main__":
    main()
