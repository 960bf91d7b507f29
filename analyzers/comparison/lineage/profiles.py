"""How alike two networks' scales of weights run with depth, role by role, beside what unrelated networks give."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.comparison.kept import KeptLayer, KeptModel
from jaynes_audit.analyzers.comparison.lineage.score import Score, null_of
from jaynes_audit.analyzers.comparison.matching import counterpart_stacks
from jaynes_audit.analyzers.comparison.subject import subject_of_record
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import LayerRecord, ModelRecord
from jaynes_audit.analyzers.roles import Role

Floats = npt.NDArray[np.float64]

PROFILED = (
    Role.ATTENTION_Q,
    Role.ATTENTION_K,
    Role.ATTENTION_V,
    Role.ATTENTION_O,
    Role.MLP_UP,
    Role.MLP_GATE,
    Role.MLP_DOWN,
)
MIN_BLOCKS = 4  # of three numbers one is left, once their mean and sd are taken off
MAX_BLOCKS = 1_000  # several times those of the deepest published network; the draws take 8 MB a curve then
MIN_BLOCKS_WITH_ENDS = 8  # so that the trend, five numbers then, leaves as many as MIN_BLOCKS leave of a parabola
MOST_WEIGHTS = 2**63  # that a layer may claim: no file is as large
FLAT = 1e-6  # nats: less than float32 tells apart
DRAWS = 1_000  # what one in twenty exceeds is known to about 0.7 percentiles then
SEED = 20_250_703

SAME_TREND = "B's trend and ends, the rest at random with its own spectrum"
SAME_INITIAL_SCALE = "Gaussian layers of one scale"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Curve:
    """The ln(rms) of one role's layers in one stack, against relative depth, 0 to 1.

    All arrays have shape (layers,). `errors` are the standard errors that chance gives to Gaussian weights.
    """

    depths: Floats
    values: Floats
    errors: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """One role's curves in both models, and the matrices of shape (points, layers) that take each to common depths."""

    stack: str
    role: Role
    a: _Curve
    b: _Curve
    common_a: Floats
    common_b: Floats


def profile_score(a: ModelRecord | KeptModel, b: ModelRecord | KeptModel) -> Score | NotFitted:
    """Correlate how the scale of weights runs with depth in two networks.

    The profile of a role is ln(rms of its weights) against relative depth, less its mean and divided by its standard
    deviation over depth, so that overall scale does not count. The score, -1 to 1, is the correlation of both models'
    profiles over the layers of all roles together. Networks of unlike depth are compared at the depths of the
    shallower; the other's profile is interpolated. After arXiv:2507.03014, where the standard deviations of attention
    matrices along depth are a model's fingerprint.

    Many networks share a trend with depth and have outlying first and last blocks, so unrelated ones correlate too. The
    null of unrelated networks keeps of B a parabola in depth and, from eight blocks on, the ends; what is left becomes
    noise of the same spectrum that is correlated among roles as before (Prichard and Theiler 1994). That of twins has
    what chance leaves to layers that all begin with Gaussian weights of one scale. Neither covers unrelated networks
    that like recipes gave alike profiles beyond that trend, nor initial scales that differ from block to block.
    """
    pairs = list(_pairs(a.layers, b.layers))
    if not pairs:
        return NotFitted(f"no role of attention or MLP has {MIN_BLOCKS} layers of unlike scale in both models")
    rng = np.random.default_rng(SEED)
    own = [pair.common_a @ pair.a.values for pair in pairs]
    layers = sum(values.size for values in own)
    return Score(
        name="depth profile",
        value=float(_correlations(own, [pair.common_b @ pair.b.values for pair in pairs])),
        compared=f"ln(rms) of {layers:,} layers: {', '.join(_by_role(pairs, own))}",
        unrelated=null_of(SAME_TREND, _correlations(own, list(_of_unrelated(pairs, rng)))),
        twins=null_of(SAME_INITIAL_SCALE, _correlations(*_of_twins(pairs, rng))),
    )


def _by_role(pairs: Sequence[_Pair], own: Sequence[Floats]) -> Iterator[str]:
    """The correlation of each role, in words."""
    for role in PROFILED:
        chosen = [number for number, pair in enumerate(pairs) if pair.role is role]
        if chosen:
            others = [pairs[number].common_b @ pairs[number].b.values for number in chosen]
            yield f"{role} {_correlations([own[number] for number in chosen], others):+.2f}"


def _correlations(a: Sequence[Floats], b: Sequence[Floats]) -> Floats:
    """The correlations over all curves together; curves have shape (..., points), and the result what is before it."""
    together = np.concatenate([_normalised(one) * _normalised(other) for one, other in zip(a, b, strict=True)], axis=-1)
    return np.asarray(np.clip(together.mean(axis=-1), -1, 1), dtype=np.float64)


def _normalised(curves: Floats) -> Floats:
    """Curves with mean 0 and standard deviation 1; zeros where they are flat."""
    centred = curves - curves.mean(axis=-1, keepdims=True)
    sd = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True))
    normalised: Floats = np.divide(centred, sd, out=np.zeros_like(centred), where=sd > FLAT)
    return normalised


# ---- the curves


def _pairs(a: Sequence[LayerRecord | KeptLayer], b: Sequence[LayerRecord | KeptLayer]) -> Iterator[_Pair]:
    """The curves of every role in every stack that both models have long enough, and not flat."""
    stacks = counterpart_stacks([subject_of_record(layer) for layer in a], [subject_of_record(layer) for layer in b])
    curves_a, curves_b = _curves(a), _curves(b)
    for stack, other in stacks.items():
        for role in PROFILED:
            curve_a, curve_b = curves_a.get((stack, role)), curves_b.get((other, role))
            if curve_a is None or curve_b is None:
                continue
            common = min(curve_a.depths, curve_b.depths, key=len)
            pair = _Pair(
                stack=stack,
                role=role,
                a=curve_a,
                b=curve_b,
                common_a=_interpolation(curve_a.depths, common),
                common_b=_interpolation(curve_b.depths, common),
            )
            if np.ptp(pair.common_a @ curve_a.values) > FLAT and np.ptp(pair.common_b @ curve_b.values) > FLAT:
                yield pair


def _curves(layers: Iterable[LayerRecord | KeptLayer]) -> dict[tuple[str, Role], _Curve]:
    """The curves of every stack and role. Several layers of one role in one block count as their mean."""
    blocks: dict[str, set[int]] = defaultdict(set)
    found: dict[tuple[str, Role], list[tuple[int, LayerRecord | KeptLayer]]] = defaultdict(list)
    for layer in layers:
        if layer.depth is not None and layer.role in PROFILED and layer.weights > 0 and 0 < layer.rms < math.inf:
            blocks[layer.stack].add(layer.depth)
            found[layer.stack, Role(layer.role)].append((layer.depth, layer))
    ranks = {
        stack: {depth: rank / max(1, len(depths) - 1) for rank, depth in enumerate(sorted(depths))}
        for stack, depths in blocks.items()
    }
    curves = {key: _curve(measured, ranks[key[0]]) for key, measured in found.items()}
    return {key: curve for key, curve in curves.items() if MIN_BLOCKS <= curve.depths.size <= MAX_BLOCKS}


def _curve(measured: list[tuple[int, LayerRecord | KeptLayer]], relative: dict[int, float]) -> _Curve:
    rows = []
    for depth, group in groupby(sorted(measured, key=lambda each: each[0]), key=lambda each: each[0]):
        together = [layer for _, layer in group]
        # ln of the rms of n Gaussian weights has the variance 1/2n.
        variance = sum(1 / (2 * min(layer.weights, MOST_WEIGHTS)) for layer in together) / len(together) ** 2
        mean = sum(math.log(layer.rms) for layer in together) / len(together)
        rows.append((relative[depth], mean, math.sqrt(variance)))
    depths, values, errors = np.array(rows).T
    return _Curve(depths=depths, values=values, errors=errors)


def _interpolation(at: Floats, to: Floats) -> Floats:
    """The matrix that takes values at some depths to values at others, linearly; outside, the nearest value counts."""
    if np.array_equal(at, to):
        return np.eye(at.size)
    right = np.clip(np.searchsorted(at, to), 1, at.size - 1)
    share = np.clip((to - at[right - 1]) / (at[right] - at[right - 1]), 0, 1)
    matrix = np.zeros((to.size, at.size))
    rows = np.arange(to.size)
    matrix[rows, right - 1] = 1 - share
    matrix[rows, right] = share
    return matrix


# ---- what networks give that are not related


def _of_unrelated(pairs: Sequence[_Pair], rng: np.random.Generator) -> Iterator[Floats]:
    """B's curves at common depths, with their trend and with noise for the rest: (draws, points) each."""
    phases: dict[tuple[str, bytes], Floats] = {}
    for pair in pairs:
        trend = _trend(pair.b)
        spectrum = np.fft.rfft(pair.b.values - trend)
        # The same phases for all roles of the same blocks keep what correlates them.
        blocks = pair.stack, pair.b.depths.tobytes()
        if blocks not in phases:
            phases[blocks] = _phases(pair.b.values.size, rng)
        rest = np.fft.irfft(spectrum * np.exp(1j * phases[blocks]), pair.b.values.size)
        yield (trend + rest) @ pair.common_b.T


def _phases(layers: int, rng: np.random.Generator) -> Floats:
    """Random phases of shape (draws, frequencies) for real noise: the mean has none, the fastest wave only a sign."""
    phases = rng.uniform(0, 2 * math.pi, (DRAWS, layers // 2 + 1))
    phases[:, 0] = 0
    if layers % 2 == 0:
        phases[:, -1] = math.pi * rng.integers(0, 2, DRAWS)
    return phases


def _trend(curve: _Curve) -> Floats:
    """A parabola in depth by least squares and, of long curves, the first and the last value as they are."""
    inner = slice(1, -1) if curve.depths.size >= MIN_BLOCKS_WITH_ENDS else slice(None)
    basis = np.vander(curve.depths, 3)
    coefficients = np.linalg.lstsq(basis[inner], curve.values[inner], rcond=None)[0]
    trend = curve.values.copy()
    trend[inner] = basis[inner] @ coefficients
    return trend


def _of_twins(pairs: Sequence[_Pair], rng: np.random.Generator) -> tuple[list[Floats], list[Floats]]:
    """Both models' curves at common depths if chance alone tells their layers apart: (draws, points) each.

    In units of the curve's mean standard error: only the shape counts, and chance is small in large layers.
    """

    def drawn(curve: _Curve, common: Floats) -> Floats:
        return rng.normal(0, curve.errors / curve.errors.mean(), (DRAWS, curve.errors.size)) @ common.T

    return [drawn(pair.a, pair.common_a) for pair in pairs], [drawn(pair.b, pair.common_b) for pair in pairs]
