"""Reports whose findings know where they are, as the commands make them."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.model_name import model_name
from jaynes_audit.analyzers.record import FailureRecord, FindingRecord, ModelRecord, ReportRecord
from jaynes_audit.analyzers.record.placing import NO_LINES, placed
from tests.support.audits import audit, layer, report
from tests.support.hostile import HOSTILE

NOT_A_NUMBER = {"nan": 1}
ASKED = frozenset({"JN001", "JN101", "JN102", "JN103", "JN904"})  # of rules to come these reports know nothing


def placed_report(
    *audits: Audit,
    failures: Sequence[FailureRecord] = (),
    baseline_place: str = "",
    lines: Mapping[str, int] = NO_LINES,
) -> ReportRecord:
    """A report of audits that were held against the same baseline, or none, by a few rules."""
    of_audits = report(*audits, failures=failures)
    models = [
        _placed(model, audit, baseline_place, lines) for model, audit in zip(of_audits.models, audits, strict=True)
    ]
    return replace(of_audits, models=models)


def _placed(model: ModelRecord, audit: Audit, baseline_place: str, lines: Mapping[str, int]) -> ModelRecord:
    findings = [each for each in model.findings if each.rule in ASKED]
    name = model_name(audit.target)
    return replace(model, findings=placed(findings, audit, model=name, baseline_place=baseline_place, lines=lines))


def broken(*names: str, target: str = "tiny", file: str = "tiny/model.safetensors") -> Audit:
    """A model in which each of these layers holds a NaN."""
    return audit(*(layer(name, special=NOT_A_NUMBER, file=file) for name in names), target=target)


def hostile_findings() -> ReportRecord:
    """Findings about layers, models and files of every hostile name."""
    return placed_report(
        broken(*HOSTILE),
        *(broken("a.weight", target=name) for name in HOSTILE),
        *(broken("a.weight", file=name) for name in HOSTILE),
    )


def finding(status: str = "new", level: str = "error", *, rule: str = "JN101", subject: str = "a") -> FindingRecord:
    """A finding made by hand."""
    return FindingRecord(
        rule=rule, name="made-by-hand", level=level, subject=subject, sentence="it is broken", status=status
    )


def with_findings(findings: Sequence[FindingRecord], *, of_run: Sequence[FindingRecord] = ()) -> ReportRecord:
    """A report with these findings on one model, and those on the run."""
    of_one = report(audit(layer("a.weight")))
    return replace(of_one, models=[replace(of_one.models[0], findings=list(findings))], findings=list(of_run))
