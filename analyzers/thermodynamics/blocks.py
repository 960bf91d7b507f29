"""The layers of one block of a network, by what they do."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.settings import Settings
from jaynes_audit.analyzers.thermodynamics.architectures import Architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block of a network, or what stands outside all blocks of a stack: then `depth` is None.

    `subject` is how a report calls it. `layers` are sorted by role; `biases` are those of the whole model, by name.
    """

    subject: str
    depth: int | None
    layers: Mapping[Role, Sequence[Layer]]
    biases: Mapping[str, Layer]
    settings: Settings
    architecture: Architecture

    def only(self, role: Role) -> Layer | None:
        """The layer of a role, where there is exactly one."""
        found = self.layers.get(role, ())
        return found[0] if len(found) == 1 else None


def by_role(layers: Sequence[Layer]) -> dict[Role, list[Layer]]:
    """Sort layers by what they do."""
    sorted_out: defaultdict[Role, list[Layer]] = defaultdict(list)
    for layer in layers:
        sorted_out[layer.part.role].append(layer)
    return dict(sorted_out)
