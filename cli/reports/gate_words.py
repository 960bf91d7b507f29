"""What the gate says of a report, the same for the terminal and for Markdown: verdict, baseline, findings, remedies."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from jaynes_audit.analyzers.rules import RULES
from jaynes_audit.cli.exit_codes import LEVELS, ExitCode, counted
from jaynes_audit.cli.reports.cells import grouped
from jaynes_audit.cli.reports.sections import news, shown
from jaynes_audit.cli.reports.view import View

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FindingRecord, ModelRecord, ReportRecord

MOST_OF_RULE = 10  # findings of one rule in one model: what breaks one layer of a shard breaks many
WITHOUT_WEIGHTS = frozenset({"not-weights", "empty"})  # why a tensor is left out that hides nothing
REMEDIES = "What to do"
MORE_ON_RULES = "`jaynes rule CODE` says more of a rule."
VERDICTS = {ExitCode.PASSED.value: "passed", ExitCode.FOUND.value: "failed"}

_RULE_OF_CODE = {rule.code: rule for rule in RULES}


def verdict(report: "ReportRecord") -> str:
    """Whether the gate passed, in two words."""
    return f"Gate {VERDICTS.get(report.exit_code, 'undecided')}"


def together(report: "ReportRecord") -> str:
    """What is new in all models, and how many targets gave no audit. Nothing found is said only where all was read."""
    found = _levels(_findings_of(report))
    failed = f"{counted(len(report.failures), 'target')} gave no audit" if report.failures else ""
    told = "; ".join(filter(None, [found, failed]))
    all_read = report.models and all(map(_is_all_read, report.models))
    return told or ("nothing new found" if all_read else report.exit_reason)


def of_model(model: "ModelRecord") -> str:
    """What is new in one model."""
    found = _levels(model.findings)
    if not any(layer.weights for layer in model.layers):
        return "; ".join(filter(None, [found, "no weight was read"]))
    return found or ("nothing new found" if _is_all_read(model) else "nothing new found in what was read")


def held_against(model: "ModelRecord") -> str:
    """Which baseline the model was held against; empty where there was none."""
    if not model.baseline:
        return ""
    return f"Held against {model.baseline.place}: {counted(model.baseline.layers, 'layer')} of {model.baseline.model}."


def without_baseline(report: "ReportRecord") -> str:
    """How many models were held against no baseline, and what that means; empty where all were."""
    free = sum(not model.baseline for model in report.models)
    if not free:
        return ""
    which = "Held" if free == len(report.models) else f"{free:,} of {len(report.models):,} models are held"
    return f"{which} against no baseline: what changed since the last good export is not known."


def by_rule(found: "Sequence[FindingRecord]", view: View) -> "Iterator[tuple[Sequence[FindingRecord], str]]":
    """The findings to list, in groups of one rule, level and status, and how many more of each there are."""
    for group in grouped(shown(found, view), lambda each: (each.status, each.level, each.rule)):
        listed = group if view.every_layer else group[:MOST_OF_RULE]
        unsaid = len(group) - len(listed)
        yield listed, f"and {unsaid:,} more of {group[0].rule}; --all lists them" if unsaid else ""


def remedies(report: "ReportRecord") -> Iterator[tuple[str, str]]:
    """Each rule with a new finding, by code and name, and in one line what to do about it; the worst first."""
    worst_first = sorted({(LEVELS.index(each.level), each.rule, each.name) for each in news(_findings_of(report))})
    for code, name in {code: name for _, code, name in worst_first}.items():
        remedy = remedy_of(code)
        if remedy:
            yield f"{code} {name}", remedy


def remedy_of(code: str) -> str:
    """What to do about what a rule found, in one line; empty for a rule of another version, as a saved report has."""
    return " ".join(_RULE_OF_CODE[code].remedy.split()) if code in _RULE_OF_CODE else ""


def _findings_of(report: "ReportRecord") -> "list[FindingRecord]":
    """All findings, those about no model last."""
    return [*(found for model in report.models for found in model.findings), *report.findings]


def _levels(found: "Iterable[FindingRecord]") -> str:
    """How many findings are new at each level, the worst first."""
    numbers = Counter(each.level for each in news(found))
    return ", ".join(counted(numbers[level], level) for level in LEVELS if numbers[level])


def _is_all_read(model: "ModelRecord") -> bool:
    read = model.coverage.complete and any(layer.weights for layer in model.layers)
    return read and all(each.reason in WITHOUT_WEIGHTS for each in model.left_out)
