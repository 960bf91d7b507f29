"""All that is known of one checkpoint of a training run: what every law is held against."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaynes_audit.analyzers.checkpoints.training_state.state import (
    Method,
    OptimizerState,
    ParameterGroup,
    TrainingState,
)
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.thermodynamics.sums import AxisSums, Density
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Which of the optimizer's parameters is which tensor.

    `keys` maps a tensor's name to the key of its `ParameterState`. `evidence` says in words how they were paired.
    `is_certain` is False while only shapes speak for it: then the Noether check has to confirm it before any law that
    needs the optimizer's memory is asked. `unpaired` are keys, and names of tensors, that found no partner.
    """

    keys: Mapping[str, str] = field(default_factory=dict)
    is_certain: bool = False
    evidence: str = ""
    unpaired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One layer with what the optimizer did to it: the settings of its group, None where nothing is known of them.

    `share_beyond` is that of weights beyond 1/sqrt(inputs), counted for the first factors of adapters alone.
    """

    layer: Layer
    sums: AxisSums
    group: ParameterGroup | None
    weight_decay: float | None
    steps: int | None
    share_beyond: float | None = None

    @property
    def mean_square(self) -> float:
        """Mean of the squared weights."""
        return self.sums.total(Density.SQUARE) / self.sums.weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A checkpoint and its training.

    `parameters` are its layers by name (parts of fused tensors one by one), in the checkpoint's order. `initial` maps
    layers to their mean square before training, as far as the checkpoint of step 0 or the config tell; `initial_source`
    says which. `earlier` is the evidence of an earlier checkpoint of the same run, where there is one. `sums` are those
    of the layers by name.
    """

    target: str
    config: Mapping[str, object]
    parameters: Mapping[str, Parameter]
    symmetries: tuple[Symmetry, ...]
    training: TrainingState
    pairing: Pairing
    initial: Mapping[str, float] = field(default_factory=dict)
    initial_source: str = ""
    earlier: "Evidence | None" = None
    sums: Mapping[str, AxisSums] = field(init=False)

    def __post_init__(self) -> None:
        """Keep the sums of every layer by its name, which each law asks for once a symmetry."""
        object.__setattr__(self, "sums", {name: each.sums for name, each in self.parameters.items()})

    @property
    def optimizer(self) -> OptimizerState | None:
        """The optimizer's state, where there is one."""
        return self.training.optimizer

    @property
    def method(self) -> Method:
        """How the optimizer makes its steps, as its state or the trainer's arguments tell."""
        return self.optimizer.method if self.optimizer is not None else self.training.method

    @property
    def decayed(self) -> Mapping[str, Parameter]:
        """The layers that weight decay acts on."""
        return {name: each for name, each in self.parameters.items() if each.weight_decay}
