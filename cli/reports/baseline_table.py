"""What a baseline holds, for people: which model, and what its layers are like."""

from collections.abc import Iterator

from jaynes_audit.analyzers.baseline.entry import Entry, StoredBaseline
from jaynes_audit.cli.exit_codes import counted
from jaynes_audit.cli.reports.cells import Cell, grid
from jaynes_audit.cli.reports.figures import NONE, count, fixed, magnitude
from jaynes_audit.cli.reports.page import BLANK, Block, Column, Span, Tone, sentence
from jaynes_audit.cli.reports.table_report import laid_out, titled
from jaynes_audit.cli.reports.view import View

MOST_LAYERS = 60

CELLS: tuple[Cell[Entry], ...] = (
    Cell(Column(title="layer", right=False, names=True), lambda each: each.name),
    Cell(Column(title="role", right=False, rank=5), lambda each: str(each.role)),
    Cell(Column(title="dtype", right=False, rank=3), lambda each: each.dtype),
    Cell(Column(title="shape", rank=4), lambda each: f"{each.rows:,} x {each.columns:,}"),
    Cell(Column(title="zeros", rank=2), lambda each: count(each.zero)),
    Cell(Column(title="NaN, inf", rank=1), lambda each: count(each.not_finite)),
    Cell(Column(title="largest |w|", rank=6), lambda each: magnitude(each.largest)),
    Cell(Column(title="mu"), lambda each: fixed(each.law.mu, 3) if each.law else NONE),
    Cell(Column(title="sigma"), lambda each: fixed(each.law.sigma, 3) if each.law else NONE),
    Cell(Column(title="content", right=False, rank=7), lambda each: each.content[:16]),
)


def render(stored: StoredBaseline, view: View) -> str:
    """Write what the baseline holds; beyond MOST_LAYERS the rest is counted, unless every layer is asked for."""
    return laid_out(_page(stored, view), view)


def _page(stored: StoredBaseline, view: View) -> Iterator[Block]:
    baseline = stored.baseline
    shown = baseline.entries if view.every_layer else baseline.entries[:MOST_LAYERS]
    weights = sum(each.weights for each in baseline.entries)
    revision = f", revision {baseline.revision}" if baseline.revision else ""
    yield sentence(
        Span(stored.place, Tone.STRONG),
        f": {baseline.model}{revision}, {counted(len(baseline.entries), 'layer')}, {counted(weights, 'weight')}.",
    )
    if baseline.reason:
        yield sentence(f"Approved as a whole because: {baseline.reason}")
    yield sentence(Span(f"Statistics of version {baseline.statistics}, SHA-256 {stored.digest}.", Tone.QUIET))
    yield BLANK
    if baseline.files:
        files = (sentence(f"{each.sha256}  {each.name}", indent=2) for each in baseline.files)
        yield from titled("Files, by SHA-256", *files)
    if baseline.known:
        known = (sentence(f"{each.rule}  {each.subject}", indent=2) for each in baseline.known)
        yield from titled("Known findings, which the gate does not count", *known)
    if shown:
        yield grid(CELLS, [(each, Tone.PLAIN) for each in shown])
    if len(shown) < len(baseline.entries):
        yield sentence(Span(f"{len(baseline.entries) - len(shown):,} more; --all lists them.", Tone.QUIET))
