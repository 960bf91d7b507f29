"""Layer -> how many outputs and inputs it has, and its part in one side of a symmetry."""

from collections.abc import Mapping

import numpy as np

from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.roles.stripes import Stripes
from jaynes_audit.analyzers.thermodynamics.symmetry import NO_CHANNEL, Axis, Channels, Term

# The end of a weight's name -> that of the bias that is added to what the weight makes.
BIAS_OF = {"weight": "bias", "gamma": "beta", "in_proj_weight": "in_proj_bias"}

MATRIX = 2  # axes


def with_bias(layer: Layer, biases: Mapping[str, Layer], channels: Channels | None = None) -> tuple[Term, ...]:
    """Give the outputs of a layer, and of its bias if it has one; `channels` are those of its outputs."""
    own = Term(layer=layer.name, axis=Axis.OUTPUTS, channels=channels)
    bias = biases.get(bias_of(layer.tensor.name))
    if bias is None:
        return (own,)
    if not layer.part.suffix:
        return own, Term(layer=bias.name, axis=Axis.OUTPUTS, channels=channels)
    # One bias for all parts of the tensor.
    fused, stripes = layer.layout.columns, layer.part.columns
    if layer.part.outputs_first:
        fused, stripes = layer.layout.rows, layer.part.rows
    where = _indices(stripes)
    spread = np.full(fused, NO_CHANNEL)
    spread[where] = np.arange(where.size) if channels is None else channels
    return own, Term(layer=bias.name, axis=Axis.OUTPUTS, channels=spread)


def _indices(stripes: Stripes) -> Channels:
    """The indices that belong to stripes."""
    at = np.arange(stripes.stop - stripes.start)
    within = at % stripes.period
    return stripes.start + at[(within >= stripes.first) & (within < stripes.first + stripes.count)]


def module_of(layer: Layer) -> str:
    """Give the path of the module that a layer belongs to."""
    return layer.name.rpartition(".")[0]


def bias_of(name: str) -> str:
    """Give the name of the bias that is added to what a weight makes."""
    module, _, leaf = name.rpartition(".")
    return f"{module}.{BIAS_OF.get(leaf, leaf)}".removeprefix(".")


def outputs_of(layer: Layer) -> int:
    """Say how many outputs a layer has; a vector's elements are outputs."""
    return (layer.part.rows if layer.part.outputs_first and not _is_vector(layer) else layer.part.columns).size


def inputs_of(layer: Layer) -> int:
    """Say how many inputs a layer has, each tap of a convolution counted."""
    return (layer.part.columns if layer.part.outputs_first and not _is_vector(layer) else layer.part.rows).size


def _is_vector(layer: Layer) -> bool:
    return len(layer.tensor.shape) < MATRIX
