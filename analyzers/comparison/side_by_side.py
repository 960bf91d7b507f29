"""What is known of two models once their layers are matched: each side summed up, and layer beside layer."""

from dataclasses import dataclass

from jaynes_audit.analyzers.comparison.distances import Distances
from jaynes_audit.analyzers.comparison.exact.outcome import Exact, Unread
from jaynes_audit.analyzers.comparison.matching import Match
from jaynes_audit.analyzers.comparison.parameters import Parameters
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.rules.changes import NO_QUANTILES


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One side of a comparison, summed up. `kind` is checkpoint, sketch archive, report or baseline.

    `bytes` are the stored ones; a baseline keeps neither these (None) nor `files`. `not_compared` are the tensors of
    which nothing could be compared, each with its reason: what was not read, what could not be decoded. `complete` is
    False when any of them should have been.
    """

    target: str
    kind: str
    commit: str
    layers: int
    weights: int
    bytes: int | None
    dtypes: tuple[str, ...]
    files: tuple[str, ...]
    not_compared: tuple[tuple[str, str], ...]
    complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerComparison:
    """A layer of both models, side by side. What could not be compared says why.

    Of layers with the very same bytes `parameters` and `distances` may be unmeasured: there is nothing to differ.
    `quantile_gap` is the greatest distance beyond chance between their quantiles, in sigmas of A.
    """

    match: Match
    parameters: Parameters | NotFitted
    distances: Distances | NotFitted
    exact: Exact | NotFitted
    quantile_gap: float | NotFitted = NO_QUANTILES

    @property
    def could_not_read(self) -> bool:
        """Whether the weights of one side should have been read and were not."""
        return isinstance(self.exact, Unread)


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferComparison:
    """A tensor that holds no weights (positions, masks, codes), compared by its bytes. `sentence` tells the outcome."""

    name: str
    identical: bool
    sentence: str
    could_not_read: bool = False
