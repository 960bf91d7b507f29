"""A layer as one side of a comparison knows it: before, or without, a look at its weights."""

from dataclasses import dataclass

from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.comparison.kept import KeptLayer
from jaynes_audit.analyzers.record import LayerRecord
from jaynes_audit.analyzers.roles import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is known of a layer whether its weights can be read, were sketched, or were only reported.

    The fields mean what they mean in `MeasuredLayer`. A complex weight counts as two.
    """

    name: str
    tensor: str
    dtype: str
    role: Role
    stack: str
    depth: int | None
    rows: int
    columns: int
    fan_in: int
    fan_out: int
    weights: int


def subject_of_layer(layer: Layer) -> Subject:
    """Describe a layer that can be read."""
    part = layer.part
    return Subject(
        name=layer.name,
        tensor=layer.tensor.name,
        dtype=layer.tensor.stored_as,
        role=part.role,
        stack=part.stack,
        depth=part.depth,
        rows=len(part.rows),
        columns=len(part.columns),
        fan_in=part.fan_in,
        fan_out=part.fan_out,
        weights=layer.extent.weights,
    )


def subject_of_record(layer: LayerRecord | KeptLayer) -> Subject:
    """Describe a layer of a report or of a baseline."""
    return Subject(
        name=layer.name,
        tensor=layer.tensor,
        dtype=layer.dtype,
        role=Role(layer.role),
        stack=layer.stack,
        depth=layer.depth,
        rows=layer.rows,
        columns=layer.columns,
        fan_in=layer.fan_in,
        fan_out=layer.fan_out,
        weights=layer.weights,
    )
