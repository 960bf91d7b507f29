"""The small networks that the families begin with: four architectures of transformers, and how they are trained.

All of them predict the next byte, BERT too: as a decoder it learns in hundreds of steps, from masks in many more.
The text is that of fixtures/text.py. Needs torch 2.13.0 and transformers 5.23.0.
"""

import json
import math
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PretrainedConfig, PreTrainedModel

FIXTURES = Path(__file__).parents[2] / "fixtures"
sys.path.append(str(FIXTURES))
from text import babble  # noqa: E402 - fixtures/ is no package

VOCABULARY = 256
CONTEXT = 64
BLOCKS = 6
WIDTH = 64
HEADS = 4
KEY_VALUE_HEADS = 2
TEXT_SEED, OTHER_TEXT_SEED = 1957, 1948
TEXT_BYTES = 1_200_000
HELD_OUT_BLOCKS = 500
WARMUP_SHARE = 0.1
FINAL_SHARE = 0.1  # of the peak learning rate, at the end of the cosine
WEIGHT_DECAY = 0.1
BETAS = (0.9, 0.95)
LARGEST_GRADIENT_NORM = 1.0
LOSSES_PER_RUN = 10
LORA_SCALE = 2.0  # alpha over rank, the usual choice

State = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Adapters of this rank on the matrices whose names end in one of `targets`."""

    rank: int
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training. It starts from the state in the folder `start`, or from the initialisation of `seed`.

    `text` is a key of TEXTS, `order` seeds the order of the batches, and `sizes` are changes to the architecture's.
    """

    name: str
    family: str
    steps: int
    seed: int = 1
    start: str = ""
    text: str = "babble"
    order: int = 0
    batch: int = 8
    peak_learning_rate: float = 3e-3
    lora: Lora | None = None
    sizes: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a run left: the mean training loss of each tenth of it, and the loss on held-out text before and after."""

    run: Run
    losses: tuple[float, ...]
    held_out_before: float
    held_out_after: float


def config_of(family: str, **sizes: int) -> PretrainedConfig:
    """The architecture of a family, with some of its sizes changed."""
    plain = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "num_hidden_layers": BLOCKS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": 2 * CONTEXT,
        "pad_token_id": None,
    }
    grouped = plain | {"num_key_value_heads": KEY_VALUE_HEADS, "bos_token_id": None, "eos_token_id": None}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    made: dict[str, PretrainedConfig] = {
        "llama": transformers.LlamaConfig(**grouped | {"intermediate_size": 192} | sizes),
        "qwen2": transformers.Qwen2Config(**grouped | {"intermediate_size": 192, "tie_word_embeddings": True} | sizes),
        "bert": transformers.BertConfig(**plain | no_dropout | {"intermediate_size": 256} | sizes, is_decoder=True),
        "gpt2": transformers.GPT2Config(
            **plain | {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0} | sizes,
            bos_token_id=None,
            eos_token_id=None,
        ),
    }
    return made["llama" if family == "babble" else family]


def network_of(config: PretrainedConfig, *, seed: int) -> PreTrainedModel:
    """A network as transformers initialises it. Of one seed no two architectures draw the same numbers."""
    torch.manual_seed(seed + zlib.crc32(config.model_type.encode()))
    return transformers.AutoModelForCausalLM.from_config(config)


def state_of(network: nn.Module) -> State:
    """The weights as `save_pretrained` names them: what is tied is stored once."""
    seen: set[int] = set()
    state = {}
    for name, tensor in network.state_dict().items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            state[name] = tensor.detach().clone()
    return state


def save(folder: Path, state: State, config: PretrainedConfig) -> None:
    """Write a model as transformers does."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "model.safetensors")
    write_config(folder, config)


def write_config(folder: Path, config: PretrainedConfig, **settings: object) -> None:
    """Write config.json."""
    classes = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    content = {**config.to_diff_dict(), "architectures": [classes[config.model_type]], **settings}
    (folder / "config.json").write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load(folder: Path) -> tuple[State, PretrainedConfig]:
    """What `save` wrote."""
    return load_file(folder / "model.safetensors"), transformers.AutoConfig.from_pretrained(folder)


def loaded(state: Mapping[str, Tensor], config: PretrainedConfig) -> PreTrainedModel:
    """A network with these weights."""
    network = network_of(config, seed=0)
    missing, unknown = network.load_state_dict(state, strict=False)
    stored = set(state_of(network))
    if unknown or stored & set(missing):
        raise SystemExit(f"the weights do not fit the network: {unknown}, {stored & set(missing)}")
    network.tie_weights()
    return network


# ---- texts


def _plain() -> str:
    return "".join(babble(seed=TEXT_SEED, at_least_bytes=TEXT_BYTES))


def _numbers() -> str:
    text = "".join(babble(seed=OTHER_TEXT_SEED, at_least_bytes=TEXT_BYTES))
    sentences = re.split(r"(?<=[.!?])\s", text)
    return "\n".join(sentence for sentence in sentences if any(character.isdigit() for character in sentence))


def _backwards() -> str:
    return "".join(babble(seed=OTHER_TEXT_SEED, at_least_bytes=TEXT_BYTES))[::-1]


TEXTS = {"babble": _plain, "numbers": _numbers, "backwards": _backwards}
"""What a network may learn: the text of the fixtures, only its sums and counts, or another text read backwards."""


@cache
def blocks_of(text: str) -> Tensor:
    """(blocks, context) of bytes; the last HELD_OUT_BLOCKS are held out."""
    tokens = torch.tensor(list(TEXTS[text]().encode("ascii")), dtype=torch.int64)
    return tokens[: len(tokens) // CONTEXT * CONTEXT].view(-1, CONTEXT)


# ---- training


def train(run: Run, out: Path) -> Trained:
    """Train a network, write it to the folder of its name, and say what it learnt."""
    torch.set_num_threads(1)  # the sum of many floats depends on its order, and the order on the threads
    torch.use_deterministic_algorithms(mode=True)
    network, config = _started(run, out)
    adapters = _with_adapters(network, run.lora) if run.lora else ()
    before = _held_out(network, run.text)
    losses = list(_updates(network, run, tuple(adapters) or tuple(network.parameters())))
    after = _held_out(network, run.text)
    _merge_adapters(network)
    save(out / run.family / run.name, state_of(network), config)
    return Trained(run=run, losses=_tenths(losses), held_out_before=before, held_out_after=after)


def _started(run: Run, out: Path) -> tuple[PreTrainedModel, PretrainedConfig]:
    if run.start:
        state, config = load(out / run.family / run.start)
        return loaded(state, config), config
    config = config_of(run.family, **dict(run.sizes))
    return network_of(config, seed=run.seed), config


def _updates(network: PreTrainedModel, run: Run, parameters: tuple[nn.Parameter, ...]) -> Iterator[float]:
    """The loss of every step."""
    optimizer = torch.optim.AdamW(
        [
            {"params": [each for each in parameters if each.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [each for each in parameters if each.ndim == 1], "weight_decay": 0.0},
        ],
        lr=run.peak_learning_rate,
        betas=BETAS,
        fused=True,
    )
    warmup = max(1, round(WARMUP_SHARE * run.steps))
    generator = torch.Generator().manual_seed(1000 * run.seed + run.order)
    training = blocks_of(run.text)[:-HELD_OUT_BLOCKS]
    for step in range(run.steps):
        progress = max(0.0, (step - warmup) / max(1, run.steps - warmup))
        share = min(1.0, (step + 1) / warmup) * (
            FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * progress)) / 2
        )
        for group in optimizer.param_groups:
            group["lr"] = share * run.peak_learning_rate
        blocks = training[torch.randint(len(training), (run.batch,), generator=generator)]
        loss = network(input_ids=blocks, labels=blocks).loss
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT_NORM)
        optimizer.step()
        yield loss.item()


@torch.no_grad()
def _held_out(network: PreTrainedModel, text: str) -> float:
    """Nats per byte."""
    held_out = blocks_of(text)[-HELD_OUT_BLOCKS:]
    return network(input_ids=held_out, labels=held_out).loss.item()


def _tenths(losses: list[float]) -> tuple[float, ...]:
    length = max(1, len(losses) // LOSSES_PER_RUN)
    parts = [losses[start : start + length] for start in range(0, len(losses), length)]
    return tuple(round(sum(part) / len(part), 4) for part in parts)


# ---- LoRA


class LowRank(nn.Module):
    """A matrix plus a product of two narrow ones, the second zero at first."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        """As PEFT initialises them."""
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with its change."""
        return weight + LORA_SCALE * (self.up @ self.down)


def _with_adapters(network: PreTrainedModel, lora: Lora) -> Iterator[nn.Parameter]:
    """Freeze the network, put an adapter beside each target, and give the adapters' weights."""
    for parameter in network.parameters():
        parameter.requires_grad_(requires_grad=False)
    torch.manual_seed(lora.rank)
    targets = [module for name, module in network.named_modules() if name.endswith(lora.targets)]
    for module in targets:
        adapter = LowRank(*module.weight.shape, lora.rank)
        parametrize.register_parametrization(module, "weight", adapter)
        yield from adapter.parameters()


def _merge_adapters(network: PreTrainedModel) -> None:
    for module in list(network.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
