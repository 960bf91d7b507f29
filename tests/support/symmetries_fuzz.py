"""How the symmetries of a network are tried: names, shapes and settings that make no sense together.

For a long run: `python -m tests.support.fuzzing symmetries --inputs 300000 --seed 7`.
"""

import json
import random
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from math import prod

from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint
from jaynes_audit.analyzers.checkpoints.training_state.state import Method, OptimizerState, ParameterState
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.thermodynamics.architectures import ARCHITECTURES
from jaynes_audit.analyzers.thermodynamics.orders import orders
from jaynes_audit.analyzers.thermodynamics.pairing import pair
from jaynes_audit.analyzers.thermodynamics.symmetries import symmetries_of
from jaynes_audit.analyzers.thermodynamics.symmetry import NO_CHANNEL, Axis, Symmetry
from tests.support.fuzzing import Fuzz
from tests.support.gradients import NETWORKS, network, tensor_of
from tests.support.hostile import HOSTILE

LEAVES = ("weight", "bias", "gamma", "beta", "lora_A.weight", "lora_B.weight", "lora_E", "running_mean")
WORDS = ("q_proj", "k_proj", "v_proj", "o_proj", "in_proj_weight", "experts.1", "layers.1", "norm", "lm_head", "module")
NUMBERS = (0, 1, -1, 2, 3, 4, 7, 8, 12, 16, 1 << 31, 10**30)
VALUES = (*NUMBERS, 0.5, 1e300, float("nan"), True, False, None, "relu", "absolute", "", [], {}, *HOSTILE[:-1])
ADAPTER = {f"model.layers.0.q_proj.lora_{which}.weight": list(shape) for which, shape in (("A", (2, 8)), ("B", (6, 2)))}
MOST_ELEMENTS = 1 << 24
FEW = 12  # tensors, in every order that is in use


@cache
def corpus() -> Sequence[bytes]:
    """The names, shapes and settings of all fixtures, and of an adapter."""
    whole = [network(name) for name in NETWORKS]
    described = [(net.config, {name: list(each.shape) for name, each in net.products.items()}) for net in whole]
    return tuple(
        json.dumps({"config": config, "aliases": {}, "tensors": tensors}).encode()
        for config, tensors in [*described, ({}, ADAPTER)]
    )


def describe_otherwise(content: bytearray, dice: random.Random) -> None:
    """Change a name, a shape, a setting or what is tied."""
    with suppress(ValueError, LookupError, TypeError, AttributeError):  # damaged before
        said = json.loads(content)
        _change(said["tensors"], said["config"], said["aliases"], dice)
        content[:] = json.dumps(said).encode()


def _change(
    tensors: dict[str, list[int]], config: dict[str, object], aliases: dict[str, str], dice: random.Random
) -> None:
    name = dice.choice(list(tensors))
    match dice.randrange(7):
        case 0:
            tensors[name] = [dice.choice(NUMBERS[:10]) for _ in range(dice.randrange(4))]
        case 1:
            tensors[name] = list(reversed(tensors[name]))
        case 2:
            tensors[_renamed(name, dice)] = tensors[name]
        case 3:
            tensors[_renamed(name, dice)] = tensors.pop(name)
        case 4:
            config[dice.choice(list(config) or ["model_type"])] = dice.choice(VALUES)
        case 5:
            config["model_type"] = dice.choice(list(ARCHITECTURES))[0]
        case _:
            aliases[_renamed(name, dice)] = dice.choice(list(tensors))


def _renamed(name: str, dice: random.Random) -> str:
    words = name.split(".")
    at = dice.randrange(len(words))
    words[at] = dice.choice((*WORDS, *LEAVES, *HOSTILE[:-1], str(dice.randrange(4)), words[dice.randrange(len(words))]))
    return ".".join(words)


def read(content: bytes) -> None:
    """List the symmetries, and pair the tensors by name and by order: all must fit the layers."""
    try:
        said = json.loads(content)
        config, aliases, shapes = dict(said["config"]), dict(said["aliases"]), dict(said["tensors"])
        tensors = [tensor_of(name, tuple(map(int, shape))) for name, shape in shapes.items()]
    except (ValueError, LookupError, TypeError, OverflowError, AttributeError):
        return  # no description
    if not all(isinstance(name, str) for name in (*aliases, *aliases.values())):
        return
    sound = [each for each in tensors if min(each.shape, default=1) >= 0 and prod(each.shape) <= MOST_ELEMENTS]
    layers = [layer for tensor in sound for layer in layers_of(tensor, config)]
    symmetries = symmetries_of(layers, config, aliases)
    by_name = {layer.name: layer for layer in layers}
    for symmetry in symmetries:
        _check(symmetry, by_name)
    names = {tensor.name for tensor in sound}
    checkpoint = Checkpoint(location="", tensors=tuple(sound), files=(), aliases=aliases)
    states = tuple(ParameterState(key=f"module.{tensor.name}", group=0, shape=tensor.shape) for tensor in sound)
    for is_named in (True, False) if len(names) <= FEW else (True,):
        optimizer = OptimizerState(
            files=(), method=Method.ADAMW, evidence="", groups=(), parameters=states, is_named=is_named
        )
        with Sources(Io.MMAP) as sources:
            keys = pair(checkpoint, layers, symmetries, optimizer, sources).keys
        assert keys.keys() <= names
        assert len(set(keys.values())) == len(keys)
    if len(names) <= FEW:
        first = next(orders(layers, [len(names)]), None)
        assert first is None or sorted(first[0]) == sorted(names)


def _check(symmetry: Symmetry, layers: dict[str, Layer]) -> None:
    assert symmetry.plus
    assert symmetry.channels > 0
    for term in (*symmetry.plus, *symmetry.minus):
        part = layers[term.layer].part
        rows, columns = len(part.rows), len(part.columns)
        is_vector = len(layers[term.layer].tensor.shape) < 2
        outputs, inputs = (rows, columns) if part.outputs_first and not is_vector else (columns, rows)
        entries = {Axis.OUTPUTS: outputs, Axis.INPUTS: inputs, Axis.ALL: 1}[term.axis]
        if term.channels is None:
            assert entries == symmetry.channels, (symmetry.subject, term.layer, entries, symmetry.channels)
        else:
            assert entries == len(term.channels)
            assert term.channels.min() >= NO_CHANNEL
            assert term.channels.max() < symmetry.channels


FUZZ = Fuzz(corpus=corpus, read=read, damages=(describe_otherwise,))
