"""Optimizer's keys -> names of tensors: by name, or by order and shape where the mean gradients confirm it."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from statistics import fmean

from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint
from jaynes_audit.analyzers.checkpoints.training_state.state import OptimizerState, ParameterState
from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.names import WRAPPERS
from jaynes_audit.analyzers.thermodynamics.evidence import Pairing
from jaynes_audit.analyzers.thermodynamics.measuring import measure, remembered_by_name
from jaynes_audit.analyzers.thermodynamics.orders import Order, orders
from jaynes_audit.analyzers.thermodynamics.sides import are_measured, gradient_identity
from jaynes_audit.analyzers.thermodynamics.sums import AxisSums, Density
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry, SymmetryKind, Term

AGREES = 0.9  # in fixtures/run the right order has 0.93 to 1.00, the best of the wrong ones 0.30
LEAST_CHANNELS = 8  # fewer correlate by chance in one of many orders
CLEARLY = 0.05  # of the correlation of norms, between orders that only norms tell apart
MOST_PARAMETERS = 2048  # hundreds of orders of more would take minutes to try
MOST_BLOCKS = 8  # whose pairs are asked; a wrong order is wrong in all of them
# What wrappers, trainers and adapters put before or into a name.
PREFIXES = ("base_model.model.", "model.", "transformer.")
ADDED = WRAPPERS | {"default"}

PAIRS = frozenset(
    {
        SymmetryKind.UP_DOWN,
        SymmetryKind.VALUE_OUTPUT,
        SymmetryKind.QUERY_KEY,
        SymmetryKind.QUERY_KEY_ROTARY,
        SymmetryKind.RELU_PAIR,
        SymmetryKind.LINEAR_PAIR,
        SymmetryKind.LORA,
    }
)

Keys = dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scored:
    """One way to pair: `worst` is the mean correlation of the kind of pair that agrees least."""

    order: Order
    worst: float
    norms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Witness:
    """What speaks for one way to pair against another. What was read once, and asked once, is remembered."""

    layers: Mapping[str, Layer]
    symmetries: Sequence[Symmetry]
    optimizer: OptimizerState
    sources: Sources
    sums: dict[tuple[str, str], AxisSums | None] = field(default_factory=dict)
    correlations: dict[tuple[str, ...], float | None] = field(default_factory=dict)

    def keys(self, order: Order) -> Keys:
        """Pair names that come in the optimizer's order with its keys."""
        groups = _by_group(self.optimizer)
        return dict(zip(order, (state.key for states in groups for state in states), strict=True))

    def score(self, order: Order) -> _Scored:
        """Ask the symmetries about an order of names. Raises CouldNotRead."""
        keys = self.keys(order)
        found: defaultdict[SymmetryKind, list[float]] = defaultdict(list)
        for symmetry in self.symmetries:
            asked = {term.layer: keys.get(self.layers[term.layer].tensor.name, "") for term in _terms(symmetry)}
            question = (symmetry.subject, *asked.values())
            if question not in self.correlations:
                self.correlations[question] = self._correlation(symmetry, asked)
            correlation = self.correlations[question]
            if correlation is not None:
                found[symmetry.kind].append(correlation)
        means = {kind: fmean(each) for kind, each in found.items()}
        return _Scored(
            order=order,
            worst=min((mean for kind, mean in means.items() if kind in PAIRS), default=0.0),
            norms=means.get(SymmetryKind.NORM_GAIN, 0.0),
        )

    def _correlation(self, symmetry: Symmetry, asked: Mapping[str, str]) -> float | None:
        for question in asked.items():
            if question not in self.sums:
                self.sums[question] = self._measured(*question)
        measured = {name: self.sums[name, key] for name, key in asked.items()}
        sums = {name: each for name, each in measured.items() if each is not None}
        if not are_measured(symmetry, sums, Density.FIRST_TIMES_WEIGHT):
            return None
        identity = gradient_identity(symmetry, sums)
        return identity.correlation if identity.live_channels >= LEAST_CHANNELS else None

    def _measured(self, name: str, key: str) -> AxisSums | None:
        layer = self.layers[name]
        remembered = remembered_by_name({layer.tensor.name: key}, self.optimizer)
        # The first mean is all that is asked for.
        firsts = {name: replace(each, state=replace(each.state, second=None)) for name, each in remembered.items()}
        return measure([layer], firsts, self.sources).sums.get(name)


def pair(
    checkpoint: Checkpoint,
    layers: Sequence[Layer],
    symmetries: Sequence[Symmetry],
    optimizer: OptimizerState,
    sources: Sources,
) -> Pairing:
    """Tell which of the optimizer's parameters is which tensor.

    Names decide where the optimizer has them. Numbered parameters are laid beside the tensors in every order that is in
    use and fits all shapes, and the order is certain when it alone makes the mean gradients obey the network's
    symmetries. Parameters that no symmetry tells from one another stay unpaired.

    Raises:
        CouldNotRead: when the system or the server reports an error.
    """
    if optimizer.is_named:
        return _by_name(checkpoint, layers, optimizer)
    return _by_order(layers, symmetries, optimizer, sources)


# ---- by name


def _by_name(checkpoint: Checkpoint, layers: Sequence[Layer], optimizer: OptimizerState) -> Pairing:
    shapes = {layer.tensor.name: layer.tensor.shape for layer in layers}
    tied = {dropped: kept for dropped, kept in checkpoint.aliases.items() if kept in shapes}
    plain: defaultdict[str, set[str]] = defaultdict(set)
    for name in (*tied, *shapes):
        plain[_plain(name)].add(tied.get(name, name))
    keys: Keys = {}
    for state in optimizer.parameters:
        alike = {state.key} if state.key in shapes else plain.get(_plain(state.key), set())
        name = next(iter(alike)) if len(alike) == 1 else ""
        if name and name not in keys and _fits(state, shapes[name]):
            keys[name] = state.key
    return Pairing(
        keys=keys,
        is_certain=bool(keys),
        evidence=f"by name: {len(keys):,} of the optimizer's {len(optimizer.parameters):,} parameters",
        unpaired=_unpaired(layers, optimizer, keys),
    )


def _plain(name: str) -> str:
    """A name without what tools put before it or into it."""
    words = ".".join(word for word in name.split(".") if word not in ADDED)
    for prefix in PREFIXES:
        words = words.removeprefix(prefix)
    return words


# ---- by order


def _by_order(
    layers: Sequence[Layer], symmetries: Sequence[Symmetry], optimizer: OptimizerState, sources: Sources
) -> Pairing:
    witness = _Witness(
        layers={layer.name: layer for layer in layers},
        symmetries=_asked(symmetries),
        optimizer=optimizer,
        sources=sources,
    )
    scored = sorted(map(witness.score, _fitting(layers, optimizer)), key=lambda each: -each.worst)
    agreeing = [each for each in scored if each.worst >= AGREES]
    clearest = max((each.norms for each in agreeing), default=0.0)
    kept = [each for each in agreeing if each.norms >= clearest - CLEARLY] or scored
    keys = witness.keys(kept[0].order) if kept else {}
    for each in kept[1:]:
        keys = dict(keys.items() & witness.keys(each.order).items())
    asked = {
        witness.layers[term.layer].tensor.name
        for symmetry in witness.symmetries
        for term in _terms(symmetry)
        if symmetry.kind in PAIRS
    }
    return Pairing(
        keys=dict(sorted(keys.items())),
        is_certain=bool(agreeing) and asked <= keys.keys(),
        evidence=_evidence(layers, optimizer, scored),
        unpaired=_unpaired(layers, optimizer, keys),
    )


def _by_group(optimizer: OptimizerState) -> list[list[ParameterState]]:
    groups: defaultdict[int, list[ParameterState]] = defaultdict(list)
    for state in optimizer.parameters:
        groups[state.group].append(state)
    return [groups[number] for number in sorted(groups)]


def _fitting(layers: Sequence[Layer], optimizer: OptimizerState) -> list[Order]:
    """The orders of names that are in use and fit all shapes, group after group."""
    if len(optimizer.parameters) > MOST_PARAMETERS or not any(state.shape for state in optimizer.parameters):
        return []
    shapes = {layer.tensor.name: layer.tensor.shape for layer in layers}
    groups = _by_group(optimizer)
    states = list(chain.from_iterable(groups))
    in_use = (tuple(chain.from_iterable(order)) for order in orders(layers, [len(group) for group in groups]))
    return list(dict.fromkeys(order for order in in_use if all(map(_fits, states, (shapes[name] for name in order)))))


def _fits(state: ParameterState, shape: tuple[int, ...]) -> bool:
    """Whether a parameter may have this shape; one that was never updated may have any."""
    return state.shape in {(), shape}


def _asked(symmetries: Sequence[Symmetry]) -> list[Symmetry]:
    """The symmetries of a few blocks, evenly spread, that have two sides."""
    depths = sorted({each.depth for each in symmetries if each.depth is not None and each.kind in PAIRS})
    chosen = {depths[at * len(depths) // MOST_BLOCKS] for at in range(MOST_BLOCKS)} if depths else set()
    return [
        each
        for each in symmetries
        if each.minus and each.kind in PAIRS | {SymmetryKind.NORM_GAIN} and each.depth in chosen
    ]


def _terms(symmetry: Symmetry) -> tuple[Term, ...]:
    return (*symmetry.plus, *symmetry.minus)


def _evidence(layers: Sequence[Layer], optimizer: OptimizerState, scored: Sequence[_Scored]) -> str:
    """How they were paired, best first, in words."""
    fitting = f"{len(scored):,} {'order' if len(scored) == 1 else 'orders'} of the checkpoint's tensors"
    if not scored:
        tensors = len({layer.tensor.name for layer in layers if layer.part.role is not Role.BUFFER})
        return (
            f"not paired: the optimizer has {len(optimizer.parameters):,} numbered parameters, the checkpoint "
            f"{tensors:,} tensors, and no usual order of them fits their shapes"
        )
    best = scored[0].worst
    if best == 0:
        return f"by shape: {fitting} fit, and no symmetry of the network that could confirm one is known"
    if best < AGREES:
        return f"by shape: {fitting} fit, and none agrees with the mean gradients (correlation {best:.2f} at best)"
    others = [each.worst for each in scored if each.worst < AGREES]
    next_best = f"; the next best has {others[0]:.2f}" if others else ""
    return (
        f"by shape: {fitting} fit, and {len(scored) - len(others):,} agree with the mean gradients "
        f"(correlation {best:.2f}{next_best})"
    )


def _unpaired(layers: Sequence[Layer], optimizer: OptimizerState, keys: Mapping[str, str]) -> tuple[str, ...]:
    """Keys and tensors without a partner. Buffers need none."""
    paired = set(keys.values())
    alone = (state.key for state in optimizer.parameters if state.key not in paired)
    names = dict.fromkeys(layer.tensor.name for layer in layers if layer.part.role is not Role.BUFFER)
    return (*alone, *(name for name in names if name not in keys))
