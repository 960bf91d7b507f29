"""Layer before, layer now -> in words, what happened to its weights: the likeliest cause first."""

import math
from collections import defaultdict
from collections.abc import Iterable
from itertools import chain

from jaynes_audit.analyzers.baseline.entry import Entry, Law
from jaynes_audit.analyzers.baseline.sameness import (
    probe_change,
    probe_tolerance,
    same_magnitudes,
    same_within_rounding,
)
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.sketch.probe import Probe

RUNAWAY = 100  # times the largest weight before
LEAST_ZERO_SHARE = 0.001  # worth a word
SAME_NUMBER = 2e-5  # relative: two numbers of six digits, each rounded
LEAST_FACTOR = 1e-3  # of ln|w|; a smaller one is not told from rounding
SAME_SHIFT = 0.01  # of the quantiles of ln|w|: they moved together, and the cells they are read from are 0.008 wide
MOST_ALIKE = 100  # layers of one shape and as many negative weights that one is held against
MOST_RELATIVE_CHANGE = 0.7  # beyond it the weights have nothing in common with those before

Place = tuple[int, int, int, int]


class Copies:
    """Which layer of the baseline a layer has the weights of. Asked for many layers, it looks at few for each."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._by_content: defaultdict[str, list[Entry]] = defaultdict(list)
        self._alike: defaultdict[Place, list[Entry]] = defaultdict(list)
        for entry in entries:
            self._by_content[entry.content].append(entry)
            # A vector of few weights is like many another one; its very content says more.
            if entry.probe:
                self._alike[_place(entry)].append(entry)

    def of(self, now: Entry, *, besides: str = "") -> Entry | None:
        """Find the layer whose very weights, or the same within rounding, a layer holds."""
        identical = (
            entry for entry in self._by_content.get(now.content, ()) if (entry.rows, entry.columns) == _shape(now)
        )
        rounded = (entry for entry in self._alike.get(_place(now), ())[:MOST_ALIKE] if same_within_rounding(entry, now))
        return next((entry for entry in chain(identical, rounded) if entry.name != besides), None)


def _shape(entry: Entry) -> tuple[int, int]:
    return entry.rows, entry.columns


def _place(entry: Entry) -> Place:
    """What layers of equal weights share in every format that keeps signs and flushes nothing to zero."""
    return entry.rows, entry.columns, entry.negative, entry.zero


def misplaced(before: Entry, now: Entry, copies: Copies, a: str) -> str:
    """Say of a layer that it holds another one's weights, or its own in another order or with signs turned.

    Empty where it does not. Training never does that: it changes every magnitude a little. `copies` knows all layers
    of the baseline, which is called `a`.
    """
    copied = copies.of(now, besides=before.name)
    if copied:
        return f"holds the weights that {quoted(copied.name)} has in {a}"
    if now.probe and _equal_magnitudes(before, now):
        return _rearranged(before, now, a)
    return ""


def diagnosis(before: Entry, now: Entry, copies: Copies, sides: tuple[str, str]) -> str:
    """Say what a layer holds in place of the weights it had. `copies` knows all layers of the baseline."""
    a, _ = sides
    told = misplaced(before, now, copies, a)
    return told or _special(before, now, sides) or _magnitudes(before, now, a)


def _special(before: Entry, now: Entry, sides: tuple[str, str]) -> str:
    """What special weights there are that were none."""
    a, b = sides
    if now.not_finite > before.not_finite:
        return f"NaN or infinite weights: {now.not_finite:,} in {b}, {before.not_finite:,} in {a}"
    if now.zero - before.zero >= max(1, LEAST_ZERO_SHARE * now.weights):
        return f"{now.zero / now.weights:.1%} of the weights are zero, {before.zero / before.weights:.1%} in {a}"
    if now.largest > RUNAWAY * before.largest:
        return f"the largest weight is {now.largest:.3g} in {b}, {before.largest:.3g} in {a}"
    return ""


def _magnitudes(before: Entry, now: Entry, a: str) -> str:
    """What became of the magnitudes: the same ones in other places, multiples of them, or others."""
    if _equal_magnitudes(before, now) or same_magnitudes(before, now):
        return _rearranged(before, now, a)
    factor = _common_factor(before.law, now.law)
    if factor and _same_places(before.probe, now.probe):
        turned = " and of the other sign" if now.negative == now.weights - before.negative - now.zero else ""
        return f"the weights are {factor:.3g} times as large as in {a}{turned}"
    return _other_weights(before, now, a)


def _equal_magnitudes(before: Entry, now: Entry) -> bool:
    """Whether two layers have the same counts of every magnitude, as far as numbers of six digits can tell."""
    if before.zero != now.zero or not _equal(before.largest, now.largest) or not _equal(before.rms, now.rms):
        return False
    if before.law is None or now.law is None:
        return before.law is now.law
    pairs = zip(
        (before.law.mu, before.law.sigma, *before.law.quantiles),
        (now.law.mu, now.law.sigma, *now.law.quantiles),
        strict=True,
    )
    return all(math.isclose(old, new, rel_tol=SAME_NUMBER, abs_tol=SAME_NUMBER) for old, new in pairs)


def _equal(before: float, now: float) -> bool:
    return math.isclose(before, now, rel_tol=SAME_NUMBER)


def _rearranged(before: Entry, now: Entry, a: str) -> str:
    """What was done to weights whose magnitudes are all there."""
    if before.probe is None or now.probe is None:
        return _turned(before, now, a) or f"the same weights as in {a} in another order"
    tolerance = probe_tolerance(before, now)
    rows = probe_change(before.probe, now.probe, "rows") <= tolerance
    columns = probe_change(before.probe, now.probe, "columns") <= tolerance
    if rows and columns:
        return _turned(before, now, a) or f"the same magnitudes as in {a}, with signs turned or a few weights exchanged"
    signs = "" if before.negative == now.negative else ", and signs turned"
    if probe_change(before.probe, now.probe.transposed, "rows", "columns") <= tolerance:
        return f"the matrix of {a}, transposed{signs}"
    what = "rows" if columns else "columns" if rows else "weights"
    return f"the {what} of {a} in another order{signs}"


def _turned(before: Entry, now: Entry, a: str) -> str:
    if before.negative == now.negative:
        return ""
    return f"the same magnitudes as in {a}, {now.negative:,} of them negative, {before.negative:,} before"


def _same_places(before: Probe | None, now: Probe | None) -> bool:
    if before is None or now is None:
        return before is now
    return probe_change(before, now, "rows", "columns") <= SAME_SHIFT * before.noise


def _common_factor(before: Law | None, now: Law | None) -> float:
    """The factor by which all magnitudes differ; 0 if there is none."""
    if before is None or now is None:
        return 0.0
    shift = now.mu - before.mu
    alike = all(abs(new - old - shift) <= SAME_SHIFT for old, new in zip(before.quantiles, now.quantiles, strict=True))
    return math.exp(shift) if alike and LEAST_FACTOR < abs(shift) < math.log(1e300) else 0.0


def _other_weights(before: Entry, now: Entry, a: str) -> str:
    moved = ""
    if before.law and now.law:
        moved = f": mu moved by {now.law.mu - before.law.mu:+.2g}, sigma by {now.law.sigma - before.law.sigma:+.2g}"
    if before.probe is None or now.probe is None:
        return f"other weights than in {a}{moved}"
    relative = relative_change(before.probe, now.probe)
    if relative > MOST_RELATIVE_CHANGE:
        return f"other weights than in {a}, nothing like them{moved}"
    return f"other weights than in {a}, about {relative:.1%} away from them{moved}"


def relative_change(before: Probe, now: Probe) -> float:
    """Estimate the relative rms of independent changes of the weights from what they move the projections by.

    A coefficient is uniform in (-1, 1), so its mean square is 1/3, and changes of relative rms e move a projection by
    2 * e * noise / sqrt(3) in standard deviation.
    """
    squares = [
        (old - new) ** 2 for old, new in zip((*before.rows, *before.columns), (*now.rows, *now.columns), strict=True)
    ]
    if not before.noise:
        return 0.0
    return math.sqrt(3 * sum(squares) / len(squares)) / (2 * before.noise)
