"""Reports of the gate made by hand, with findings of every standing."""

import dataclasses
from collections.abc import Sequence

from msgspec.structs import replace

from jaynes_audit.analyzers.record import (
    FailureRecord,
    FindingRecord,
    ModelRecord,
    ReportRecord,
    failure_record,
    finding_record,
)
from jaynes_audit.analyzers.record.report import BaselineRecord
from jaynes_audit.analyzers.rules import RULES, Status
from jaynes_audit.cli.exit_codes import FailOn, outcome_of
from tests.support import audits
from tests.support.hostile import HOSTILE

BASELINE = BaselineRecord(
    place="origin/main:baselines/tiny.jaynes.jsonl", model="tiny", statistics="1", layers=14, digest="0" * 64
)
_RULE_OF_CODE = {rule.code: rule for rule in RULES}


def finding(code: str, subject: str, sentence: str, status: Status = Status.NEW, why: str = "") -> FindingRecord:
    """What a rule of this code says, at its usual level."""
    return finding_record(dataclasses.replace(_RULE_OF_CODE[code].finding(subject, sentence), status=status, why=why))


def gate(
    *models: ModelRecord,
    failures: Sequence[FailureRecord] = (),
    of_the_run: Sequence[FindingRecord] = (),
    fail_on: FailOn = FailOn.ERROR,
) -> ReportRecord:
    """A report of the gate on these models."""
    outcome = outcome_of(models, failures, of_the_run, fail_on)
    return replace(
        audits.report(),
        command="gate",
        models=list(models),
        failures=list(failures),
        findings=list(of_the_run),
        fail_on=fail_on.value,
        exit_code=outcome.code,
        exit_reason=outcome.reason,
    )


def held(model: ModelRecord, *findings: FindingRecord) -> ModelRecord:
    """The model held against a baseline, with these findings and no others."""
    return replace(model, baseline=BASELINE, findings=list(findings))


def model(*names: str, target: str = "export/tiny") -> ModelRecord:
    """A model with layers of these names, in which nothing was found."""
    return replace(audits.report(audits.audit(*map(audits.layer, names), target=target)).models[0], findings=[])


def failing_gate() -> ReportRecord:
    """A broken model with old sins beside the new ones, a sound one, and an ignore that covers nothing."""
    broken = held(
        model("embed.weight", "layers.0.mlp.up.weight", "layers.0.mlp.down.weight", "layers.1.mlp.up.weight"),
        finding("JN101", "layers.0.mlp.up.weight", "1 NaN and 0 infinite among 65,536 weights"),
        finding("JN102", "layers.0.mlp.down.weight", "all 65,536 weights are zero", Status.BASELINED),
        finding("JN103", "layers.1.mlp.up.weight", "all 65,536 weights have the magnitude 0.5"),
        finding("JN103", "embed.weight", "all 65,536 weights are 1", Status.IGNORED, "a table of ones, see #123"),
    )
    unused = finding("JN901", "jaynes.toml, ignore 2", "it covers no finding")
    return gate(broken, held(model("a.weight", target="export/sound")), of_the_run=[unused])


def hostile_gate() -> ReportRecord:
    """A report in which every text of a stranger is hostile, in every place and standing."""
    layers = [audits.layer(name, file=name) for name in HOSTILE]
    of_subjects = [
        finding(code, name, f"it says {name}", status, name if status is Status.IGNORED else "")
        for name in HOSTILE
        for code, status in (("JN101", Status.NEW), ("JN103", Status.IGNORED), ("JN102", Status.BASELINED))
    ]
    read = audits.audit(
        *layers,
        target=HOSTILE[0],
        left_out=[audits.left_out(f"left out {name}", explanation=name) for name in HOSTILE],
        remarks=HOSTILE,
    )
    first = replace(
        audits.report(read).models[0],
        commit=HOSTILE[0],
        baseline=replace(BASELINE, place=HOSTILE[0], model=HOSTILE[0]),
        findings=of_subjects,
    )
    others = [held(model("a", target=name), finding("JN904", name, name)) for name in HOSTILE]
    return gate(
        first,
        *others,
        failures=[failure_record(name, name, 4) for name in HOSTILE],
        of_the_run=[finding("JN901", name, name) for name in HOSTILE],
    )
