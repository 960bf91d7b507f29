"""An optimizer's parameters find their tensors: by name, or by order once the gradients confirm it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from jaynes_audit.analyzers.checkpoints.locations import open_checkpoint
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Tensor
from jaynes_audit.analyzers.checkpoints.training_state.reading import read_training_state
from jaynes_audit.analyzers.checkpoints.training_state.state import (
    Method,
    OptimizerState,
    ParameterGroup,
    ParameterState,
)
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.thermodynamics.evidence import Pairing
from jaynes_audit.analyzers.thermodynamics.pairing import pair
from jaynes_audit.analyzers.thermodynamics.symmetries import symmetries_of
from tests.support.checkpoints import checkpoint, stored
from tests.support.gradients import FOLDER, network, tensor_of

RUN = FOLDER.parent / "run"

# The order in which transformers makes a LLaMA: `[name for name, _ in model.named_parameters()]`.
OF_ATTENTION = tuple(f"self_attn.{which}_proj.weight" for which in "qkvo")
OF_MLP = tuple(f"mlp.{which}_proj.weight" for which in ("gate", "up", "down"))
OF_NORMS = ("input_layernorm.weight", "post_attention_layernorm.weight")
BLOCKS = [f"model.layers.{block}." for block in range(2)]
MATRICES = (
    "model.embed_tokens.weight",
    *(block + name for block in BLOCKS for name in (*OF_ATTENTION, *OF_MLP)),
    "lm_head.weight",
)
GAINS = (*(block + name for block in BLOCKS for name in OF_NORMS), "model.norm.weight")
IN_ONE_GROUP = (
    "model.embed_tokens.weight",
    *(block + name for block in BLOCKS for name in (*OF_ATTENTION, *OF_MLP, *OF_NORMS)),
    "model.norm.weight",
    "lm_head.weight",
)

Arrays = Mapping[str, npt.NDArray[np.float64]]


@pytest.fixture
def sources() -> Iterator[Sources]:
    with Sources(Io.MMAP) as opened:
        yield opened


def of_llama(kind: str) -> Arrays:
    return load_file(FOLDER / "llama" / f"{kind}.safetensors")


def opened(folder: Path, arrays: Arrays) -> tuple[Checkpoint, list[Layer]]:
    """A checkpoint of a LLaMA, its tensors by name as its format has them, and its layers."""
    config = network("llama").config
    folder.mkdir()
    found = checkpoint(folder, {name: stored(arrays[name], Dtype.F64) for name in sorted(arrays)}, config=config)
    return found, [layer for tensor in found.tensors for layer in layers_of(tensor, config)]


def of_run(step: int) -> tuple[Checkpoint, list[Layer]]:
    """The checkpoint of a real run at a step, and its layers."""
    found = open_checkpoint(str(RUN / f"checkpoint-{step}"))
    return found, [layer for tensor in found.tensors for layer in layers_of(tensor, found.configs[""])]


def state_of_run(step: int) -> OptimizerState:
    state = read_training_state(str(RUN / f"checkpoint-{step}")).optimizer
    assert state is not None
    return state


def optimizer(folder: Path, *groups: Sequence[npt.NDArray[np.float64] | None]) -> OptimizerState:
    """An optimizer with these running means, numbered; None is a parameter that was never updated."""
    means = [(number, each) for number, group in enumerate(groups) for each in group]
    folder.mkdir()
    file = {f"{key}": stored(each, Dtype.F64) for key, (_, each) in enumerate(means) if each is not None}
    firsts = {tensor.name: tensor for tensor in checkpoint(folder, file).tensors}
    states = tuple(
        ParameterState(
            key=str(key),
            group=number,
            shape=() if each is None else each.shape,
            steps=None if each is None else 5,
            first=firsts.get(str(key)),
        )
        for key, (number, each) in enumerate(means)
    )
    return of_states(states, groups=len(groups))


def of_states(states: tuple[ParameterState, ...], *, groups: int = 1, is_named: bool = False) -> OptimizerState:
    return OptimizerState(
        files=(),
        method=Method.ADAMW,
        evidence="",
        groups=(ParameterGroup(beta1=0.9),) * groups,
        parameters=states,
        is_named=is_named,
    )


def paired(found: Checkpoint, layers: list[Layer], state: OptimizerState, sources: Sources) -> Pairing:
    config = found.configs.get("", {})
    return pair(found, layers, symmetries_of(layers, config, found.aliases), state, sources)


def numbered(*names: str) -> dict[str, str]:
    return {name: str(number) for number, name in enumerate(names)}


def named(*keys: str, shape: tuple[int, ...] = ()) -> OptimizerState:
    return of_states(tuple(ParameterState(key=key, group=0, shape=shape) for key in keys), is_named=True)


@pytest.mark.parametrize("groups", [(MATRICES, GAINS), (GAINS, MATRICES), (IN_ONE_GROUP,)])
def test_numbers_find_their_names_whatever_the_groups(
    groups: tuple[tuple[str, ...], ...], tmp_path: Path, sources: Sources
) -> None:
    found, layers = opened(tmp_path / "weights", of_llama("model"))
    gradients = of_llama("gradients")
    state = optimizer(tmp_path / "state", *([gradients[name] for name in group] for group in groups))
    result = paired(found, layers, state, sources)
    assert result.keys == numbered(*(name for group in groups for name in group))
    assert result.is_certain
    assert not result.unpaired


@pytest.mark.parametrize("step", [300, 900, 3000])
def test_the_order_of_a_real_run_is_found_at_any_time(step: int, sources: Sources) -> None:
    result = paired(*of_run(step), state_of_run(step), sources)
    assert result.keys == numbered(*MATRICES, *GAINS)
    assert result.is_certain


def test_the_memory_of_another_time_is_not_certain(sources: Sources) -> None:
    result = paired(*of_run(3000), state_of_run(300), sources)
    assert not result.is_certain
    assert "none agrees" in result.evidence


def test_the_memories_of_two_blocks_put_in_each_others_place_are_not_certain(sources: Sources) -> None:
    right = state_of_run(3000)
    states = list(right.parameters)
    states[1:8], states[8:15] = states[8:15], states[1:8]
    renumbered = tuple(replace(state, key=str(key)) for key, state in enumerate(states))
    result = paired(*of_run(3000), replace(right, parameters=renumbered), sources)
    assert not result.is_certain


def test_the_factors_of_adapters_are_found(tmp_path: Path, sources: Sources) -> None:
    """The values' before the queries', as no sorting by name would have them."""
    generator = np.random.default_rng(0)
    weights, gradients = {}, {}
    for block, which in product(range(2), "vq"):
        module = f"base_model.model.model.layers.{block}.self_attn.{which}_proj"
        a, b, to_product = (generator.normal(size=size) for size in ((8, 16), (16, 8), (16, 16)))
        weights |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
        gradients |= {f"{module}.lora_A.weight": b.T @ to_product, f"{module}.lora_B.weight": to_product @ a.T}
    found, layers = opened(tmp_path / "weights", weights)
    result = paired(found, layers, optimizer(tmp_path / "state", list(gradients.values())), sources)
    assert result.keys == numbered(*gradients)
    assert result.is_certain


def test_another_order_of_making_is_found_by_the_gradients(tmp_path: Path, sources: Sources) -> None:
    """Values before keys and up before gate, of the same shapes as the other way round."""
    order = [name for name in MATRICES if "layers" not in name]
    for block in reversed(BLOCKS):
        order[1:1] = [block + f"self_attn.{which}_proj.weight" for which in "qvko"]
        order[5:5] = [block + f"mlp.{which}_proj.weight" for which in ("up", "gate", "down")]
    found, layers = opened(tmp_path / "weights", of_llama("model"))
    gradients = of_llama("gradients")
    state = optimizer(tmp_path / "state", [gradients[name] for name in order], [gradients[name] for name in GAINS])
    result = paired(found, layers, state, sources)
    assert result.keys == numbered(*order, *GAINS)
    assert result.is_certain


def test_a_memory_of_something_else_is_never_certain(tmp_path: Path, sources: Sources) -> None:
    found, layers = opened(tmp_path / "weights", of_llama("model"))
    generator = np.random.default_rng(0)
    noise = {name: generator.normal(size=each.shape) for name, each in of_llama("model").items()}
    state = optimizer(tmp_path / "state", [noise[name] for name in MATRICES], [noise[name] for name in GAINS])
    result = paired(found, layers, state, sources)
    assert not result.is_certain
    assert "none agrees" in result.evidence


def test_without_symmetries_only_what_shapes_alone_decide_is_paired(tmp_path: Path, sources: Sources) -> None:
    found, layers = opened(tmp_path / "weights", of_llama("model"))
    gradients = of_llama("gradients")
    state = optimizer(tmp_path / "state", [gradients[name] for name in MATRICES], [gradients[name] for name in GAINS])
    result = pair(found, layers, (), state, sources)
    assert not result.is_certain
    assert (
        result.keys["model.layers.1.mlp.down_proj.weight"] == numbered(*MATRICES)["model.layers.1.mlp.down_proj.weight"]
    )
    assert "model.layers.1.mlp.up_proj.weight" in result.unpaired
    assert numbered(*MATRICES)["model.layers.1.mlp.up_proj.weight"] in result.unpaired


def test_frozen_parameters_hold_their_place_in_the_order(tmp_path: Path, sources: Sources) -> None:
    found, layers = opened(tmp_path / "weights", of_llama("model"))
    gradients = of_llama("gradients")
    means = [gradients[name] if "embed" not in name else None for name in MATRICES]
    state = optimizer(tmp_path / "state", means, [gradients[name] for name in GAINS])
    result = paired(found, layers, state, sources)
    assert result.keys == numbered(*MATRICES, *GAINS)
    assert result.is_certain


@pytest.mark.parametrize("names", [MATRICES[1:], (*MATRICES, "lm_head.weight")], ids=["one less", "one more"])
def test_another_number_of_parameters_is_said_and_nothing_is_paired(
    names: tuple[str, ...], tmp_path: Path, sources: Sources
) -> None:
    found, layers = opened(tmp_path / "weights", of_llama("model"))
    gradients = of_llama("gradients")
    state = optimizer(tmp_path / "state", [gradients[name] for name in names], [gradients[name] for name in GAINS])
    result = paired(found, layers, state, sources)
    assert not result.keys
    assert not result.is_certain
    assert len(result.unpaired) == len(names) + len(GAINS) + len(layers)
    assert f"{len(names) + len(GAINS)} numbered parameters, the checkpoint {len(layers)} tensors" in result.evidence


def test_three_groups_are_not_guessed_at(tmp_path: Path, sources: Sources) -> None:
    found, layers = opened(tmp_path / "weights", of_llama("model"))
    gradients = of_llama("gradients")
    state = optimizer(tmp_path / "state", *([gradients[name]] for name in GAINS[:3]))
    assert not paired(found, layers, state, sources).keys


def test_parameters_without_any_memory_are_not_paired(tmp_path: Path, sources: Sources) -> None:
    found, layers = opened(tmp_path / "weights", of_llama("model"))
    state = optimizer(tmp_path / "state", [None] * len(MATRICES), [None] * len(GAINS))
    assert not paired(found, layers, state, sources).keys


def test_a_hostile_number_of_parameters_is_not_tried(tmp_path: Path, sources: Sources) -> None:
    found, layers = opened(tmp_path / "weights", of_llama("model"))
    states = tuple(ParameterState(key=str(key), group=0, shape=(1,)) for key in range(100_000))
    assert not paired(found, layers, of_states(states), sources).keys


@pytest.mark.parametrize(
    "key",
    [
        "model.layers.0.mlp.up_proj.weight",
        "module.model.layers.0.mlp.up_proj.weight",
        "_orig_mod.model.layers.0.mlp.up_proj.weight",
        "base_model.model.model.layers.0.mlp.up_proj.base_layer.weight",
        "layers.0.mlp.up_proj.weight",
    ],
)
def test_a_name_is_found_whatever_a_wrapper_made_of_it(key: str, sources: Sources) -> None:
    name = "model.layers.0.mlp.up_proj.weight"
    layers = list(layers_of(tensor_of(name, (16, 12)), {}))
    result = pair(nothing(layers), layers, (), named(key, shape=(16, 12)), sources)
    assert result.keys == {name: key}
    assert result.is_certain
    assert not result.unpaired


def test_a_name_with_another_shape_is_another_tensor(sources: Sources) -> None:
    layers = list(layers_of(tensor_of("fc.weight", (16, 12)), {}))
    result = pair(nothing(layers), layers, (), named("fc.weight", shape=(12, 16)), sources)
    assert not result.keys
    assert not result.is_certain
    assert result.unpaired == ("fc.weight", "fc.weight")


def test_a_tied_parameter_is_found_under_the_name_that_was_kept(sources: Sources) -> None:
    layers = list(layers_of(tensor_of("model.embed_tokens.weight", (16, 12)), {}))
    tied = nothing(layers, aliases={"lm_head.weight": "model.embed_tokens.weight"})
    assert pair(tied, layers, (), named("lm_head.weight"), sources).keys == {
        "model.embed_tokens.weight": "lm_head.weight"
    }


def test_two_keys_never_share_a_tensor(sources: Sources) -> None:
    layers = list(layers_of(tensor_of("fc.weight", (2, 2)), {}))
    result = pair(nothing(layers), layers, (), named("fc.weight", "module.fc.weight"), sources)
    assert result.keys == {"fc.weight": "fc.weight"}
    assert result.unpaired == ("module.fc.weight",)


def nothing(layers: list[Layer], aliases: Mapping[str, str] | None = None) -> Checkpoint:
    tensors: tuple[Tensor, ...] = tuple(layer.tensor for layer in layers)
    return Checkpoint(location="", tensors=tensors, files=(), aliases=aliases or {})
