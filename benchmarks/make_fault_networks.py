"""Make the small networks of `transformers` that faults are injected into, each at five moments of a short training.

    python -m venv torchenv
    torchenv/bin/pip install torch==2.13.0 transformers==5.23.0 safetensors scikit-learn numpy gguf
    torchenv/bin/python benchmarks/make_fault_networks.py --out FOLDER [--workers N]

FOLDER/ARCHITECTURE/MOMENT is what `save_pretrained` writes; the moments are `initial`, `middle`, `previous`,
`trained` and `next`, the last three one step apart. ViT learns the digits of scikit-learn, all others the next byte of
the text of the fixtures. It takes about four minutes of one core. On one machine the same seeds give the same weights.
"""

import argparse
import math
import multiprocessing
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from families.networks import VOCABULARY, blocks_of, config_of
from torch import Tensor
from transformers import PreTrainedModel

STEPS = 240
WARMUP_STEPS = 24
PEAK_LEARNING_RATE = 3e-3
FINAL_SHARE = 0.1  # of the peak, at the end of the cosine
WEIGHT_DECAY = 0.1
BATCH = 8
SEED = 11
CONTEXT = 64
MOMENTS = {"initial": 0, "middle": STEPS // 2, "previous": STEPS - 1, "trained": STEPS, "next": STEPS + 1}

Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A network as its configuration makes it, and what it learns from."""

    network: Callable[[], PreTrainedModel]
    batch: Callable[[torch.Generator], Batch]


def main() -> None:
    """Train every architecture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    # Not forked: torch's threads do not survive it.
    with ProcessPoolExecutor(chosen.workers, multiprocessing.get_context("spawn")) as pool:
        for told in pool.map(train, ARCHITECTURES, [chosen.out] * len(ARCHITECTURES)):
            print(told, flush=True)


def train(name: str, out: Path) -> str:
    """Train a network, keep it at each moment, and say what it reached."""
    torch.set_num_threads(1)  # the sum of many floats depends on its order, and the order on the threads
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(SEED + zlib.crc32(name.encode()))
    architecture = ARCHITECTURES[name]
    network = architecture.network()
    moment_of = {step: moment for moment, step in MOMENTS.items()}
    losses = []
    for step, loss in enumerate(_updates(network, architecture.batch)):
        losses.append(loss)
        if step in moment_of:
            network.save_pretrained(out / name / moment_of[step])
    return f"{name:8} {network.num_parameters():9,} weights, loss {losses[0]:.3f} -> {losses[STEPS - 1]:.3f}"


def _updates(network: PreTrainedModel, batch: Callable[[torch.Generator], Batch]) -> Iterator[float]:
    """The loss of a batch each time before the network learns from it."""
    network.train()
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [each for each in parameters if each.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [each for each in parameters if each.ndim == 1], "weight_decay": 0.0},
        ]
    )
    generator = torch.Generator().manual_seed(SEED)
    for step in range(max(MOMENTS.values()) + 1):
        progress = min(1.0, max(0.0, (step - WARMUP_STEPS) / (STEPS - WARMUP_STEPS)))
        share = min(1.0, (step + 1) / WARMUP_STEPS) * (
            FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * progress)) / 2
        )
        for group in optimizer.param_groups:
            group["lr"] = share * PEAK_LEARNING_RATE
        loss = network(**batch(generator)).loss
        yield loss.item()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()


# ---- what they learn


def _text(generator: torch.Generator) -> Batch:
    blocks = blocks_of("babble")
    chosen = blocks[torch.randint(len(blocks), (BATCH,), generator=generator)]
    return {"input_ids": chosen, "labels": chosen}


def _text_after_text(generator: torch.Generator) -> Batch:
    chosen = _text(generator)["input_ids"]
    return {"input_ids": chosen[:, : CONTEXT // 2], "labels": chosen[:, CONTEXT // 2 :].contiguous()}


def _digits(generator: torch.Generator) -> Batch:
    from sklearn.datasets import load_digits

    digits = load_digits()
    chosen = torch.randint(len(digits.target), (4 * BATCH,), generator=generator)
    images = torch.from_numpy(digits.images).float()[chosen][:, None] / 16
    return {"pixel_values": images, "labels": torch.from_numpy(digits.target)[chosen]}


# ---- the architectures

_SIZES = {"vocab_size": VOCABULARY, "hidden_size": 64, "num_hidden_layers": 4}
_ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
_TOKENS = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}


def _causal(config: transformers.PretrainedConfig) -> Architecture:
    return Architecture(network=lambda: transformers.AutoModelForCausalLM.from_config(config), batch=_text)


ARCHITECTURES: dict[str, Architecture] = {
    **{family: _causal(config_of(family)) for family in ("llama", "gpt2", "bert", "qwen2")},
    "gemma": _causal(
        transformers.GemmaConfig(**_SIZES, **_ATTENTION, **_TOKENS, intermediate_size=192, head_dim=16),
    ),
    "mixtral": _causal(
        transformers.MixtralConfig(**_SIZES, **_ATTENTION, **_TOKENS, intermediate_size=128, num_local_experts=4),
    ),
    "mamba": _causal(transformers.MambaConfig(**_SIZES, **_TOKENS, state_size=8)),
    "t5": Architecture(
        network=lambda: transformers.T5ForConditionalGeneration(
            transformers.T5Config(
                vocab_size=VOCABULARY,
                d_model=64,
                d_kv=16,
                d_ff=192,
                num_layers=4,
                num_heads=4,
                dropout_rate=0.0,
                decoder_start_token_id=0,
            )
        ),
        batch=_text_after_text,
    ),
    "vit": Architecture(
        network=lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(
                hidden_size=64,
                num_hidden_layers=4,
                num_attention_heads=4,
                intermediate_size=192,
                image_size=8,
                patch_size=2,
                num_channels=1,
                num_labels=10,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            )
        ),
        batch=_digits,
    ),
}


if __name__ == "__main__":
    main()
