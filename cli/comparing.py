"""Operands -> report: each opened, every two compared, judged and recorded; what cannot be opened stops nobody else."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

from jaynes_audit.analyzers.baseline.operand import open_operands
from jaynes_audit.analyzers.checkpoints import HubAccess
from jaynes_audit.analyzers.comparison.comparison import Manner, compare
from jaynes_audit.analyzers.comparison.findings import findings_of
from jaynes_audit.analyzers.comparison.operand import Operand
from jaynes_audit.analyzers.comparison.record import ComparisonReportRecord, comparison_record
from jaynes_audit.analyzers.errors import JaynesError, UsageError
from jaynes_audit.analyzers.record import FailureRecord, Tool, failure_record
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.cli.auditing import DISTRIBUTION
from jaynes_audit.cli.exit_codes import FailOn, exit_code_of, outcome_of_comparisons
from jaynes_audit.cli.progress import progress

LEAST_OPERANDS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to compare, how, and what counts as a failure."""

    operands: Sequence[str]
    manner: Manner
    access: HubAccess
    fail_on: FailOn
    show_progress: bool


def report_on(request: Request) -> ComparisonReportRecord:
    """Compare every two operands, and say which could not be.

    Raises:
        UsageError: when there are fewer than two.
        CouldNotRead: when what could be opened cannot be read on.
    """
    opened = list(_opened(request.operands, request.access))
    operands = [each for each in opened if isinstance(each, Operand)]
    failures = [each for each in opened if isinstance(each, FailureRecord)]
    if len(opened) < LEAST_OPERANDS and not failures:
        raise UsageError("there is nothing to compare it with; name two models or more")
    with progress(" and ".join(each.target for each in operands), _unknown, wanted=request.show_progress) as advance:
        comparisons = [
            comparison_record(comparison, findings_of(comparison))
            for comparison in compare(operands, replace(request.manner, on_bytes=advance))
        ]
    outcome = outcome_of_comparisons(comparisons, failures, request.fail_on)
    return ComparisonReportRecord(
        tool=Tool(name=DISTRIBUTION, version=version(DISTRIBUTION)),
        operands=[text(each.target) for each in operands],
        comparisons=comparisons,
        failures=failures,
        fail_on=request.fail_on.value,
        exit_code=outcome.code,
        exit_reason=outcome.reason,
    )


def _opened(targets: Iterable[str], access: HubAccess) -> Iterator[Operand | FailureRecord]:
    for target in targets:
        try:
            yield from open_operands(target, access)
        except JaynesError as error:
            yield failure_record(target, str(error), exit_code_of(error))


def _unknown() -> int:
    """How much is to be read: the second reading depends on what the first finds."""
    return 0
