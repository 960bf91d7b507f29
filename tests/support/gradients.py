"""The networks of fixtures/symmetries: their layers, and the sums of gradient * weight over outputs and inputs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.roles import Stripes
from jaynes_audit.analyzers.thermodynamics.symmetry import NO_CHANNEL, Axis, Symmetry, Term

FOLDER = Path(__file__).parent.parent.parent / "fixtures/symmetries"
WHOLE = tuple(sorted(path.parent.name for path in FOLDER.glob("*/config.json")))
CONFIGS = json.loads((FOLDER / "products.json").read_text())
NETWORKS = (*WHOLE, *CONFIGS)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Network:
    """A network whose gradients are known: `products` are gradient * weight, by the names of tensors."""

    config: Mapping[str, object]
    products: Mapping[str, Floats]

    @property
    def layers(self) -> list[Layer]:
        return [
            layer
            for name, product in self.products.items()
            for layer in layers_of(tensor_of(name, product.shape), self.config)
        ]

    def sums(self, name: str, axis: Axis) -> Floats:
        """What a layer's products sum to along an axis."""
        (layer,) = (each for each in self.layers if each.name == name)
        matrix = part_of(layer, self.products[layer.tensor.name])
        if axis is Axis.ALL:
            return matrix.sum(keepdims=True).ravel()
        return matrix.sum(axis=1 if axis is Axis.OUTPUTS else 0)

    def side(self, terms: tuple[Term, ...], channels: int) -> Floats:
        """What stands on one side of a symmetry, added up entry by entry."""
        total = np.zeros(channels)
        for term in terms:
            entries = self.sums(term.layer, term.axis)
            owners = range(channels) if term.channels is None else term.channels
            for owner, entry in zip(owners, entries, strict=True):
                if owner != NO_CHANNEL:
                    total[owner] += entry
        return total

    def gap(self, symmetry: Symmetry) -> float:
        """How far the two sides are apart, relative to the larger one, or the one side from zero."""
        plus, minus = (self.side(terms, symmetry.channels) for terms in (symmetry.plus, symmetry.minus))
        if symmetry.minus:
            return float(abs(plus - minus).max() / max(abs(plus).max(), abs(minus).max()))
        names = {layer.name: layer for layer in self.layers}
        largest = sum(abs(self.products[names[term.layer].tensor.name]).sum() for term in symmetry.plus)
        return float(abs(plus).max() / largest)


def network(name: str) -> Network:
    """One of the fixtures."""
    if name in WHOLE:
        weights, gradients = (load_file(FOLDER / name / f"{kind}.safetensors") for kind in ("model", "gradients"))
        config = json.loads((FOLDER / name / "config.json").read_text())
        return Network(config, {key: weight * gradients[key] for key, weight in weights.items()})
    products = load_file(FOLDER / "products.safetensors")
    own = {key.partition("/")[2]: product for key, product in products.items() if key.startswith(f"{name}/")}
    return Network(CONFIGS[name], own)


def tensor_of(name: str, shape: tuple[int, ...]) -> Tensor:
    """A tensor that nobody reads."""
    return Tensor(name=name, dtype=Dtype.F64, shape=shape, file=Path("x"), start=0, end=8 * int(np.prod(shape)))


def part_of(layer: Layer, array: Floats) -> Floats:
    """The layer's share of a tensor as a matrix, outputs first; a vector's elements are its outputs."""
    matrix = array.reshape(layer.layout.rows, layer.layout.columns)
    own = matrix[np.ix_(_belonging(layer.part.rows), _belonging(layer.part.columns))]
    return own if layer.part.outputs_first and array.ndim > 1 else own.T


def _belonging(stripes: Stripes) -> list[int]:
    return [
        at
        for at in range(stripes.start, stripes.stop)
        if stripes.first <= (at - stripes.start) % stripes.period < stripes.first + stripes.count
    ]
