"""Cases of the rules about structure and about laws."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.checkpoints import Checkpoint
from tests.rules.case import Asked, Case, saved
from tests.support.checkpoints import stored

Matrix = npt.NDArray[np.float64]
Weights = dict[str, Matrix]
WIDTH, INNER, BLOCKS = 128, 192, 8
CONFIG = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "tie_word_embeddings": False,
}


def drawn(rows: int, columns: int, rng: np.random.Generator) -> Matrix:
    """A matrix as a normal initialiser leaves it."""
    return rng.normal(0, 0.02, (rows, columns))


def trained(rows: int, columns: int, rng: np.random.Generator) -> Matrix:
    """A matrix whose rows are of unlike sizes, as after training."""
    return drawn(rows, columns, rng) * np.exp(rng.normal(0, 0.2, (rows, 1)))


def llama(matrix: Callable[[int, int, np.random.Generator], Matrix] = trained) -> Weights:
    """A language model in the Llama layout."""
    rng = np.random.default_rng(7)
    weights = {"model.embed_tokens.weight": matrix(96, WIDTH, rng), "lm_head.weight": matrix(96, WIDTH, rng)}
    weights["model.norm.weight"] = 1 + rng.normal(0, 0.1, WIDTH)
    shapes = {"q_proj": (WIDTH, WIDTH), "k_proj": (WIDTH // 2, WIDTH), "v_proj": (WIDTH // 2, WIDTH)}
    for block in range(BLOCKS):
        at = f"model.layers.{block}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"{at}{name}.weight"] = 1 + rng.normal(0, 0.1, WIDTH)
        for name, (rows, columns) in (shapes | {"o_proj": (WIDTH, WIDTH)}).items():
            weights[f"{at}self_attn.{name}.weight"] = matrix(rows, columns, rng)
        for name, (rows, columns) in {"gate_proj": (INNER, WIDTH), "up_proj": (INNER, WIDTH)}.items():
            weights[f"{at}mlp.{name}.weight"] = matrix(rows, columns, rng)
        weights[f"{at}mlp.down_proj.weight"] = matrix(WIDTH, INNER, rng)
    return weights


def up(block: int) -> str:
    return f"model.layers.{block}.mlp.up_proj.weight"


def written(folder: Path, weights: Weights, config: dict[str, object] | None = None) -> Checkpoint:
    tensors = {name: stored(each) for name, each in weights.items()}
    return saved(folder, tensors, config=CONFIG if config is None else config)


def sound(folder: Path) -> Asked:
    return Asked(checkpoint=written(folder, llama()))


def case(damage: Callable[[Weights], Weights], start: Callable[[], Weights] = llama) -> Case:
    """A model that is damaged, and the same one sound."""
    return Case(failing=lambda folder: Asked(checkpoint=written(folder, damage(start()))), passing=sound)


def with_copied_matrix(weights: Weights) -> Weights:
    return weights | {up(3): weights[up(2)]}


def with_copied_block(weights: Weights) -> Weights:
    copies = {name.replace("layers.2.", "layers.3."): each for name, each in weights.items() if "layers.2." in name}
    return weights | copies


def with_drawn_matrix(weights: Weights) -> Weights:
    return weights | {up(3): drawn(INNER, WIDTH, np.random.default_rng(8))}


def with_fewer_blocks(weights: Weights) -> Weights:
    return {name: each for name, each in weights.items() if f"layers.{BLOCKS - 1}." not in name}


def in_a_wrapper(weights: Weights) -> Weights:
    return {f"module.{name}": each for name, each in weights.items()}


def without(weights: Weights, *names: str) -> Weights:
    return {name: each for name, each in weights.items() if name not in names}


def with_uniform_matrices(weights: Weights) -> Weights:
    rng = np.random.default_rng(9)
    return {
        name: rng.uniform(-0.1, 0.1, each.shape) if name.endswith("up_proj.weight") else each
        for name, each in weights.items()
    }


def with_wide_law(weights: Weights) -> Weights:
    rng = np.random.default_rng(10)
    wide = np.exp(rng.normal(-4, 1.8, (INNER, WIDTH))) * rng.choice([-1, 1], (INNER, WIDTH))
    return weights | {up(3): wide}


def with_larger_half(weights: Weights) -> Weights:
    late = tuple(f"layers.{block}." for block in range(BLOCKS // 2, BLOCKS))
    return {name: each * 4 if any(at in name for at in late) else each for name, each in weights.items()}


CASES = {
    "JN108": case(with_copied_matrix),
    "JN109": case(with_copied_block),
    "JN110": case(with_drawn_matrix),
    "JN113": case(with_drawn_matrix),
    "JN205": case(with_fewer_blocks),
    "JN206": case(in_a_wrapper),
    "JN207": case(lambda weights: without(weights, up(3))),
    "JN301": case(with_uniform_matrices),
    "JN302": case(with_wide_law),
    "JN303": case(with_wide_law),
    "JN304": case(with_larger_half),
}
