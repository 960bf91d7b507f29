"""Baseline <-> text: one line for the model, one for each layer, one for each finding that it had.

The text is made to be reviewed: a layer that changed is a line that changed, and equal models give equal bytes.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from jaynes_audit.analyzers.baseline.entry import (
    QUANTILE_PROBABILITIES,
    Baseline,
    Entry,
    FileDigest,
    Known,
    Law,
    StoredBaseline,
)
from jaynes_audit.analyzers.baseline.keeping import place_in_file
from jaynes_audit.analyzers.checkpoints.quoted import quoted, quoted_path
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.analyzers.record.report import JSON_SCHEMA
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.sketch.probe import PROJECTIONS, Probe

FORMAT: Final = "jaynes-baseline/1"
SUFFIX = ".jaynes.jsonl"
LONGEST_NAME = 1 << 16  # characters
LONGEST_MESSAGE = 200
NOT_PLAIN = re.compile(r"[^\x00-\x7e]")
MOST_PROBLEMS = 100  # told of one file

NO_DIGEST = "0" * 64  # what stands in the digest's place while it is made
QUANTILES = len(QUANTILE_PROBABILITIES)
BROKEN: Final = (msgspec.MsgspecError, ValueError, RecursionError)  # what decoding raises, whatever the bytes

DIGEST = "^[0-9a-f]{64}$"  # SHA-256
Sha256 = Annotated[str, Meta(pattern=DIGEST)]
Name = Annotated[str, Meta(max_length=LONGEST_NAME)]
Whole = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Size = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
Number = Annotated[float, Meta(ge=-1.7e308, le=1.7e308)]
Magnitude = Annotated[float, Meta(ge=0, le=1.7e308)]
UpToOne = Annotated[float, Meta(ge=0, le=1)]
# The logarithm of a double is between -745 and 710: so are means and quantiles, and no sigma is as large.
Logarithm = Annotated[float, Meta(ge=-1000, le=1000)]
Spread = Annotated[float, Meta(ge=0, le=1000)]
Share = Annotated[float, Meta(ge=-1, le=1)]
Projections = Annotated[tuple[Share, ...], Meta(min_length=PROJECTIONS, max_length=PROJECTIONS)]


class HeaderLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first line: which model it is, and what the other lines must be."""

    format: Annotated[Literal["jaynes-baseline/1"], Meta(description="Name and version of this format.")]
    statistics: Annotated[
        str, Meta(pattern=r"^[0-9]{1,4}(\.[0-9]{1,4})?$", description="Version of how the numbers are measured.")
    ]
    model: Annotated[Name, Meta(description="Name of the model.")]
    revision: Annotated[Name, Meta(description="The Hub's name of its version; empty for a local one.")]
    reason: Annotated[Name, Meta(description="Why somebody approved all of it at once.")] = ""
    layers: Annotated[Whole, Meta(description="How many lines of layers follow.")]
    files: Annotated[
        dict[Name, Sha256],
        Meta(description="SHA-256 of each file that it was read from, by its path from the model's folder."),
    ] = {}
    digest: Annotated[
        str, Meta(pattern=DIGEST, description="SHA-256 of all bytes, with 64 zeros in the place of this.")
    ]


class LayerLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A layer. Logarithms are natural ones; numbers that are not whole have six significant digits."""

    layer: Annotated[Name, Meta(description="Its name.")]
    role: Annotated[Role, Meta(description="What it does in the network.")]
    stack: Annotated[Name, Meta(description="The stack of blocks it stands in.")] = ""
    depth: Annotated[Whole | None, Meta(description="Number of its block; null: outside the blocks.")] = None
    shape: Annotated[tuple[Whole, Whole], Meta(description="Rows and columns as stored; a vector has one row.")]
    fans: Annotated[tuple[Whole, Whole], Meta(description="Connections into and out of it; 0: no matrix.")]
    dtype: Annotated[str, Meta(pattern="^[ -~]{1,64}$", description="Number format, or the quantiser's label.")]
    unused_bits: Annotated[int, Meta(ge=0, le=64, description="Low mantissa bits that are zero in every weight.")] = 0
    n: Annotated[Size, Meta(description="How many weights it has.")]
    zero: Annotated[Whole, Meta(description="How many of them are zero.")] = 0
    subnormal: Annotated[Whole, Meta(description="How many are below the normal range of the format.")] = 0
    negative: Annotated[Whole, Meta(description="How many have the sign bit set.")] = 0
    not_finite: Annotated[Whole, Meta(description="How many are NaN or infinite.")] = 0
    largest: Annotated[Magnitude, Meta(description="Greatest finite magnitude.")]
    rms: Annotated[Magnitude, Meta(description="Root of the mean square of the finite weights.")]
    mu: Annotated[Logarithm | None, Meta(description="Mean of ln|w|; null: nothing was fitted.")] = None
    sigma: Annotated[Spread | None, Meta(description="Standard deviation of ln|w|.")] = None
    skewness: Annotated[Number | None, Meta(description="Skewness of ln|w|.")] = None
    errors: Annotated[
        tuple[Magnitude, Magnitude] | None, Meta(description="Standard errors of mu and sigma; null: too few rows.")
    ] = None
    q: Annotated[
        tuple[Logarithm, ...],
        Meta(max_length=QUANTILES, description=f"Quantiles of ln|w| at {', '.join(map(str, QUANTILE_PROBABILITIES))}."),
    ] = ()
    rows: Annotated[
        Projections | None, Meta(description="Projections of the rows' sums of squares; null: a vector.")
    ] = None
    columns: Annotated[Projections | None, Meta(description="The same of its columns.")] = None
    noise: Annotated[UpToOne | None, Meta(description="Root of the sum of fourth powers over the sum of squares.")] = (
        None
    )
    content: Annotated[str, Meta(pattern="^[0-9a-f]{32}$", description="Hash of the stored weights.")]


class KnownLine(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A finding that the model had by itself when the baseline was written."""

    rule: Annotated[str, Meta(pattern="^JN[0-9]{3}$", description="Code of the rule.")]
    subject: Annotated[Name, Meta(description="The layer or the file it is about.")]


LINES = (HeaderLine, LayerLine, KnownLine)

_HEADER = msgspec.json.Decoder(HeaderLine)
_LAYER = msgspec.json.Decoder(LayerLine)
_KNOWN = msgspec.json.Decoder(KnownLine)


class _Unfit(ValueError):
    """A line that cannot stand where it stands, in words."""


class _AnyFormat(Struct):
    """What is looked at first: the format that a file says it has."""

    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """What is wrong with a file, and on which line; 0 for the file as a whole."""

    line: int
    what: str

    def told(self, place: str) -> str:
        where = f", line {self.line:,}" if self.line else ""
        return f"{quoted_path(place)}{where}: {self.what}"


def to_text(baseline: Baseline) -> str:
    """Write a baseline down: equal baselines give equal bytes."""
    lines: list[Struct] = [_layer_line(entry) for entry in baseline.entries]
    lines += [KnownLine(rule=each.rule, subject=each.subject) for each in baseline.known]
    rest = "".join(map(_written, lines))
    header = HeaderLine(
        format=FORMAT,
        statistics=baseline.statistics,
        model=baseline.model,
        revision=baseline.revision,
        reason=text(baseline.reason),
        layers=len(baseline.entries),
        files={each.name: each.sha256 for each in baseline.files},
        digest=NO_DIGEST,
    )
    digest = hashlib.sha256(f"{_written(header)}{rest}".encode()).hexdigest()
    return _written(msgspec.structs.replace(header, digest=digest)) + rest


def from_text(content: bytes, place: str) -> StoredBaseline:
    """Read a baseline; `place` is what errors call it.

    Raises UsageError, with file and line, for anything but a whole baseline of this format as it was written: nothing
    is ever compared with a part of one.
    """
    reading = _Reading(content)
    for problem in reading.problems():
        raise UsageError(f"{problem.told(place)}; take it from its history, or write it again")
    return reading.stored(place)


def verify(content: bytes, place: str) -> list[str]:
    """Say all that is wrong with a baseline file, each with its line. Nothing is said of a sound one."""
    found = [problem.told(place) for problem in islice(_Reading(content).problems(), MOST_PROBLEMS + 1)]
    return [*found[:MOST_PROBLEMS], *(["there are more problems"] if len(found) > MOST_PROBLEMS else [])]


def baseline_schema() -> dict[str, object]:
    """Give the JSON Schema of any one line: the first one, a layer's, or a finding's."""
    schemas, components = msgspec.json.schema_components(LINES, ref_template="#/$defs/{name}")
    return {
        "$schema": JSON_SCHEMA,
        "title": FORMAT,
        "description": "Any one line of a baseline: the first one, then those of layers, then those of findings.",
        "oneOf": list(schemas),
        "$defs": components,
    }


class _Reading:
    """A file being read: `problems` goes through it once and says what is wrong, `stored` is what a sound one holds."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._header: HeaderLine | None = None
        self._entries: list[Entry] = []
        self._known: list[Known] = []
        self._lines: dict[str, int] = {}

    def stored(self, place: str) -> StoredBaseline:
        """Give what was read. `problems` has come to its end without any."""
        assert self._header  # noqa: S101 - or there was a problem
        return StoredBaseline(
            place=place,
            digest=self._header.digest,
            baseline=Baseline(
                model=self._header.model,
                revision=self._header.revision,
                reason=self._header.reason,
                statistics=self._header.statistics,
                entries=tuple(self._entries),
                known=tuple(self._known),
                files=tuple(FileDigest(name=name, sha256=each) for name, each in self._header.files.items()),
            ),
            lines=self._lines,
        )

    def problems(self) -> Iterator[_Problem]:
        """Read, and tell what is wrong, the first lines first. Behind a first line with a problem nothing is read."""
        before = list(self._of_bytes())
        if not before:
            header, *rest = self._content.split(b"\n")[:-1]
            before = list(self._of_header(header))
        yield from before
        if not before:
            yield from self._of_lines(rest)
            yield from self._of_the_whole()

    def _of_bytes(self) -> Iterator[_Problem]:
        for number, line in enumerate(self._content.split(b"\n"), 1):
            if line.startswith((b"<<<<<<< ", b">>>>>>> ")):
                what = "it is the mark of a merge conflict; take one side whole, then bring the baseline up to date"
                yield _Problem(line=number, what=what)
                return
        if not self._content:
            yield _Problem(line=0, what="the file is empty")
        elif b"\r\n" in self._content:
            what = "its lines end as on Windows; add the line '*.jaynes.jsonl -text' to .gitattributes"
            yield _Problem(line=0, what=what)
        elif not self._content.endswith(b"\n"):
            yield _Problem(line=0, what="it ends in the middle of a line")

    def _of_header(self, line: bytes) -> Iterator[_Problem]:
        try:
            named = msgspec.json.decode(line, type=_AnyFormat).format
        except BROKEN:
            yield _Problem(line=1, what="it is no baseline; its first line does not say which format it has")
            return
        if named != FORMAT:
            yield _Problem(line=1, what=f"its format is {quoted(named)}, and this version of jaynes reads {FORMAT}")
            return
        try:
            self._header = _HEADER.decode(line)
        except BROKEN as error:
            yield _Problem(line=1, what=_words(error))
            return
        if list(self._header.files) != sorted(self._header.files, key=place_in_file):
            yield _Problem(line=1, what="its files are not in order")

    def _of_lines(self, lines: list[bytes]) -> Iterator[_Problem]:
        for number, line in enumerate(lines, 2):
            try:
                self._take(line, number)
            except BROKEN as error:
                yield _Problem(line=number, what=_words(error))

    def _take(self, line: bytes, number: int) -> None:
        """Keep what a line holds. Raises _Unfit for one that cannot stand there."""
        if line.startswith(b'{"rule":'):
            found = _KNOWN.decode(line)
            self._known.append(Known(rule=found.rule, subject=found.subject))
            return
        entry = _entry(_LAYER.decode(line))
        if self._known:
            raise _Unfit("a layer stands behind the findings")
        if entry.name in self._lines:
            raise _Unfit(f"the layer {quoted(entry.name)} stands on line {self._lines[entry.name]:,} already")
        self._entries.append(entry)
        self._lines[entry.name] = number

    def _of_the_whole(self) -> Iterator[_Problem]:
        assert self._header  # noqa: S101 - it was read first
        for one, following in pairwise(self._entries):
            if place_in_file(one.name) > place_in_file(following.name):
                what = f"the layer {quoted(following.name)} belongs before {quoted(one.name)}"
                yield _Problem(line=self._lines[following.name], what=what)
        order = [(each.rule, place_in_file(each.subject)) for each in self._known]
        if any(one >= following for one, following in pairwise(order)):
            yield _Problem(line=0, what="its findings are not in order, or one stands there twice")
        if len(self._entries) != self._header.layers:
            what = f"its first line promises {self._header.layers:,} layers, and it has {len(self._entries):,}"
            yield _Problem(line=0, what=what)
        header, end, rest = self._content.partition(b"\n")
        written = header.replace(self._header.digest.encode(), NO_DIGEST.encode()) + end + rest
        if hashlib.sha256(written).hexdigest() != self._header.digest:
            what = "its lines are not those that its digest was made of: somebody changed it by hand or merged it"
            yield _Problem(line=1, what=what)


def _written(line: Struct) -> str:
    """A line of the file, in ASCII: whoever reviews it sees every character of a name that a stranger chose."""
    return NOT_PLAIN.sub(lambda found: json.dumps(found[0])[1:-1], msgspec.json.encode(line).decode()) + "\n"


def _words(error: Exception) -> str:
    if isinstance(error, _Unfit):
        return str(error)
    return f"it is not as jaynes writes it: {quoted(str(error), longest=LONGEST_MESSAGE)}"


def _layer_line(entry: Entry) -> LayerLine:
    law, probe = entry.law, entry.probe
    return LayerLine(
        layer=entry.name,
        role=entry.role,
        stack=entry.stack,
        depth=entry.depth,
        shape=(entry.rows, entry.columns),
        fans=(entry.fan_in, entry.fan_out),
        dtype=entry.dtype,
        unused_bits=entry.unused_bits,
        n=entry.weights,
        zero=entry.zero,
        subnormal=entry.subnormal,
        negative=entry.negative,
        not_finite=entry.not_finite,
        largest=entry.largest,
        rms=entry.rms,
        mu=law.mu if law else None,
        sigma=law.sigma if law else None,
        skewness=law.skewness if law else None,
        errors=(law.se_mu, law.se_sigma) if law and law.se_mu is not None and law.se_sigma is not None else None,
        q=law.quantiles if law else (),
        rows=probe.rows if probe else None,
        columns=probe.columns if probe else None,
        noise=probe.noise if probe else None,
        content=entry.content,
    )


def _entry(line: LayerLine) -> Entry:
    """Give the layer of a line. Raises _Unfit for one that contradicts itself."""
    if max(line.zero, line.subnormal, line.negative, line.not_finite) > line.n:
        raise _Unfit("it counts more weights of a kind than there are")
    rows, columns = line.shape
    fan_in, fan_out = line.fans
    return Entry(
        name=line.layer,
        role=line.role,
        stack=line.stack,
        depth=line.depth,
        rows=rows,
        columns=columns,
        fan_in=fan_in,
        fan_out=fan_out,
        dtype=line.dtype,
        unused_bits=line.unused_bits,
        weights=line.n,
        zero=line.zero,
        subnormal=line.subnormal,
        negative=line.negative,
        not_finite=line.not_finite,
        largest=line.largest,
        rms=line.rms,
        law=_law(line),
        probe=_probe(line),
        content=line.content,
    )


def _law(line: LayerLine) -> Law | None:
    if line.mu is None or line.sigma is None or line.skewness is None:
        if all(each is None for each in (line.mu, line.sigma, line.skewness, line.errors)) and not line.q:
            return None
        raise _Unfit("of mu, sigma, skewness and quantiles it has some and not all")
    if len(line.q) != QUANTILES or any(one > following for one, following in pairwise(line.q)):
        raise _Unfit(f"its quantiles are not {QUANTILES} rising numbers")
    se_mu, se_sigma = line.errors or (None, None)
    return Law(mu=line.mu, sigma=line.sigma, skewness=line.skewness, se_mu=se_mu, se_sigma=se_sigma, quantiles=line.q)


def _probe(line: LayerLine) -> Probe | None:
    if line.rows is None or line.columns is None or line.noise is None:
        if all(each is None for each in (line.rows, line.columns, line.noise)):
            return None
        raise _Unfit("of its rows, its columns and their noise it has some and not all")
    return Probe(rows=line.rows, columns=line.columns, noise=line.noise)
