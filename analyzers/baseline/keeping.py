"""Audit -> Baseline: what is kept of every layer, while its weights are read and once they are judged."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from jaynes_audit.analyzers.audit import Audit, numbered
from jaynes_audit.analyzers.baseline.entry import (
    QUANTILE_PROBABILITIES,
    STATISTICS,
    Baseline,
    Entry,
    FileDigest,
    Known,
    Law,
)
from jaynes_audit.analyzers.checkpoints.file_digests import HashedFiles
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors
from jaynes_audit.analyzers.distributions.quantiles import log_quantiles
from jaynes_audit.analyzers.distributions.stack import Stack
from jaynes_audit.analyzers.layer_audit import LayerAudit, MeasuredLayer
from jaynes_audit.analyzers.model_name import lasting_subject, model_name
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.analyzers.rules import RULES, Finding
from jaynes_audit.analyzers.rules.files import DIGEST_MISMATCH
from jaynes_audit.analyzers.rules.hygiene import HYGIENE_RULES
from jaynes_audit.analyzers.sketch.grid import Grid
from jaynes_audit.analyzers.sketch.histogram import Histogram, Magnitudes
from jaynes_audit.analyzers.sketch.probe import Probe

PROBABILITIES = np.array(QUANTILE_PROBABILITIES)
CODES_TOGETHER = 1 << 18  # 4 MB of counts; one call of array arithmetic for each small layer would cost far more
LARGEST = 1.7e308  # what is beyond it would be no number in JSON

NEVER_KNOWN = frozenset(rule.code for rule in RULES if rule.needs_baseline or rule in {DIGEST_MISMATCH, *HYGIENE_RULES})
"""Findings that are never a property of the model: of what changed, and of the audit itself."""

Quantiles = tuple[float, ...]


class Keeper:
    """The quantiles of every layer that is read: 140 bytes a layer, from counts that nothing else keeps.

    `keep` is for `audit_checkpoint`, as `on_measured`.
    """

    def __init__(self) -> None:
        self._awaiting: defaultdict[Grid, dict[str, Magnitudes]] = defaultdict(dict)
        self._codes = 0
        self._quantiles: dict[str, Quantiles] = {}

    def keep(self, layer: MeasuredLayer, histogram: Histogram) -> None:
        """Keep a layer that was read."""
        magnitudes = histogram.magnitudes
        if magnitudes.codes.size:
            self._awaiting[magnitudes.grid][layer.name] = magnitudes
            self._codes += magnitudes.codes.size
            if self._codes > CODES_TOGETHER:
                self._work_out()

    def of(self, name: str) -> Quantiles:
        """Give the quantiles of ln|w| of a layer; none if all its weights are zero or not finite."""
        self._work_out()
        return self._quantiles.get(name, ())

    def _work_out(self) -> None:
        for layers in self._awaiting.values():
            quantiles = log_quantiles(Stack.of(list(layers.values())), PROBABILITIES).tolist()
            self._quantiles.update(zip(layers, (tuple(map(short, each)) for each in quantiles), strict=True))
        self._awaiting.clear()
        self._codes = 0


def baseline_of(
    audit: Audit, keeper: Keeper, findings: Iterable[Finding] = (), hashed: HashedFiles | None = None
) -> Baseline:
    """Put together what is kept of a model.

    `keeper` has heard the audit. Of the findings those that the model has by itself become known ones. `hashed` are its
    files, where their digests are wanted.
    """
    entries: dict[str, Entry] = {}
    # Parts of fused tensors first: a tensor that is called as a part is must not stand for it.
    for layer in sorted(audit, key=lambda layer: layer.name == layer.tensor):
        entry = entry_of(layer, keeper.of(layer.name))
        while entry.name in entries:
            entry = replace(entry, name=f"{entry.name}+")
        entries[entry.name] = entry
    known = {known_of(each, audit.target) for each in findings if each.rule not in NEVER_KNOWN}
    return Baseline(
        model=text(model_name(audit.target)),
        revision=text(audit.commit),
        statistics=STATISTICS,
        entries=tuple(sorted(entries.values(), key=lambda entry: place_in_file(entry.name))),
        known=tuple(sorted(known, key=lambda each: (each.rule, place_in_file(each.subject)))),
        files=_digests(hashed) if hashed else (),
    )


def _digests(hashed: HashedFiles) -> tuple[FileDigest, ...]:
    digests: dict[str, str] = {}
    for file, sha256 in hashed.sha256.items():
        name = text(file)
        while name in digests:  # a name that looks like the escape of another must not stand for it
            name += "+"
        digests[name] = sha256
    return tuple(FileDigest(name=name, sha256=digests[name]) for name in sorted(digests, key=place_in_file))


def known_of(finding: Finding, target: str) -> Known:
    """Name a finding so that it is known again on another machine: a file by its place in the model's folder."""
    return Known(rule=finding.rule, subject=text(lasting_subject(finding.subject, target)))


def entry_of(layer: LayerAudit, quantiles: Quantiles) -> Entry:
    """Keep what tells later whether a layer is still the same."""
    counts, probe = layer.counts, layer.probe
    return Entry(
        name=text(layer.name),
        role=layer.role,
        stack=text(layer.stack),
        depth=layer.depth,
        rows=layer.rows,
        columns=layer.columns,
        fan_in=layer.fan_in,
        fan_out=layer.fan_out,
        dtype=layer.dtype,
        unused_bits=layer.unused_bits,
        weights=counts.weights,
        zero=counts.zero,
        subnormal=counts.subnormal,
        negative=counts.negative,
        not_finite=counts.infinite + counts.nan,
        largest=short(layer.largest),
        rms=short(layer.rms),
        law=_law(layer, quantiles),
        probe=Probe(
            rows=tuple(map(short, probe.rows)), columns=tuple(map(short, probe.columns)), noise=short(probe.noise)
        )
        if isinstance(probe, Probe)
        else None,
        content=layer.content,
    )


def _law(layer: LayerAudit, quantiles: Quantiles) -> Law | None:
    if not isinstance(layer.fit, LognormalFit) or not quantiles:
        return None
    moments, errors = layer.fit.moments, layer.errors
    # Without blocks of rows to leave out an error is that of independent weights, which is too small.
    known = errors if isinstance(errors, LogMomentErrors) and errors.blocks else None
    return Law(
        mu=short(moments.log_mean),
        sigma=short(moments.log_sigma),
        skewness=short(moments.skewness),
        se_mu=short(known.log_mean) if known else None,
        se_sigma=short(known.log_sigma) if known else None,
        quantiles=quantiles,
    )


def short(number: float) -> float:
    """Give a number with the six significant digits that the file has. It is finite, whatever came in."""
    if math.isnan(number):
        return 0.0
    return float(f"{max(-LARGEST, min(number, LARGEST)):.6g}") + 0.0  # and not -0.0


def place_in_file(name: str) -> tuple[list[tuple[int, str]], str]:
    """Give the key that puts layers in the order of the file: layer 2 before layer 10, whatever zeros are before it."""
    return numbered(name), name
