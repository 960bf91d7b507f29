"""Plain chains of layers -> their symmetries: perceptrons, adapters, and convolutions with their BatchNorms."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.settings import Settings, word
from jaynes_audit.analyzers.thermodynamics.symmetry import Axis, Symmetry, SymmetryKind, Term
from jaynes_audit.analyzers.thermodynamics.terms import MATRIX, bias_of, inputs_of, outputs_of, with_bias

# The settings that name the non-linearity of a feed-forward network, the first that is there decides.
ACTIVATIONS = (
    "hidden_act",
    "activation_function",
    "dense_act_fn",
    "feed_forward_proj",
    "activation",
    "hidden_activation",
)
HOMOGENEOUS = frozenset({"relu", "leaky_relu"})  # f(a x) = a f(x) for a > 0
LINEAR = frozenset({"linear", "identity"})

FACTORS = {"lora_A": "lora_B", "lora_embedding_A": "lora_embedding_B"}
# What stands between the two factors of other adapters, or pulls on them besides the loss.
BETWEEN_FACTORS = ("lora_E", "lora_mid")

# Where a BatchNorm follows each convolution: the end of the convolution's name -> that of its norm's.
NORMS_OF_CONVOLUTIONS = {"convolution": "normalization"}

NUMBERS = re.compile(r"([0-9]{1,18})")  # a longer one is no index, and would take long to read


def activation_of(settings: Settings) -> str:
    """Give the name of the non-linearity of feed-forward networks, in lower case, empty if the settings have none."""
    return next(filter(None, (word(settings, key).lower() for key in ACTIVATIONS)), "")


def perceptron_symmetries(layers: Sequence[Layer], config: Mapping[str, object]) -> Iterator[Symmetry]:
    """The pairs of neighbours in a plain chain of matrices, all named alike but for a number, biases apart."""
    activation = activation_of(config)
    kind = SymmetryKind.RELU_PAIR if activation in HOMOGENEOUS else SymmetryKind.LINEAR_PAIR
    biases = {layer.name: layer for layer in layers if layer.part.role is Role.BIAS}
    matrices = sorted((layer for layer in layers if layer.name not in biases), key=lambda each: natural(each.name))
    own = {bias_of(layer.name) for layer in matrices}
    chained = all(outputs_of(first) == inputs_of(second) for first, second in pairwise(matrices))
    if (
        activation not in HOMOGENEOUS | LINEAR
        or not chained
        or not biases.keys() <= own
        or any(len(layer.tensor.shape) != MATRIX or layer.part.suffix for layer in matrices)
        or len({NUMBERS.sub("#", layer.name) for layer in matrices}) != 1
    ):
        return
    for first, second in pairwise(matrices):
        names = " / ".join(quoted(layer.name.removesuffix(".weight")) for layer in (first, second))
        yield Symmetry(
            kind=kind,
            subject=names,
            depth=first.part.depth,
            channels=outputs_of(first),
            plus=with_bias(first, biases),
            minus=(Term(layer=second.name, axis=Axis.INPUTS),),
        )


def natural(name: str) -> list[tuple[str, int]]:
    """A key that sorts names by their numbers."""
    words = NUMBERS.split(name)
    return [(text, int(number)) for text, number in zip(words[::2], [*words[1::2], "0"], strict=True)]


def adapter_symmetries(layers: Sequence[Layer]) -> Iterator[Symmetry]:
    """The two factors of each low-rank adapter, of which only the product counts."""
    by_name = {layer.name: layer for layer in layers}
    not_alone = {
        name.partition(f".{between}")[0] for between in BETWEEN_FACTORS for name in by_name if f".{between}" in name
    }
    for name, first in by_name.items():
        word_of_first = next((each for each in FACTORS if f".{each}" in name), "")
        module, _, rest = name.partition(f".{word_of_first}")
        second = by_name.get(f"{module}.{FACTORS.get(word_of_first, '')}{rest}")
        if word_of_first and second and module not in not_alone and outputs_of(first) == inputs_of(second):
            yield Symmetry(
                kind=SymmetryKind.LORA,
                subject=f"LoRA of {quoted(module)}",
                depth=first.part.depth,
                channels=outputs_of(first),
                plus=(Term(layer=second.name, axis=Axis.INPUTS),),
                minus=(Term(layer=first.name, axis=Axis.OUTPUTS),),
            )


def filter_symmetries(layers: Sequence[Layer]) -> Iterator[Symmetry]:
    """The convolutions that a BatchNorm follows, each filter by itself."""
    by_name = {layer.name: layer for layer in layers}
    biases = {layer.name: layer for layer in layers if layer.part.role is Role.BIAS}
    for layer in layers:
        module, _, leaf = layer.name.rpartition(".")
        parent, _, own = module.rpartition(".")
        norm = by_name.get(f"{parent}.{NORMS_OF_CONVOLUTIONS.get(own, own)}.weight")
        if leaf == "weight" and own in NORMS_OF_CONVOLUTIONS and norm and outputs_of(norm) == outputs_of(layer):
            yield Symmetry(
                kind=SymmetryKind.CONV_BATCH_NORM,
                subject=f"filters of {quoted(module)}",
                depth=layer.part.depth,
                channels=outputs_of(layer),
                plus=with_bias(layer, biases),
            )
