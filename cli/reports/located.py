"""What is new in a report, the worst first, each with the place in the repository where a reviewer is to see it.

Ignored and baselined findings are left out: neither GitHub nor GitLab knows such a state, and would show them as news.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from posixpath import normpath
from typing import TYPE_CHECKING

from jaynes_audit.analyzers.model_name import model_name
from jaynes_audit.analyzers.record.placing import fingerprint
from jaynes_audit.cli.exit_codes import LEVELS

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import FindingRecord, ModelRecord, ReportRecord

USUAL_CONFIGURATION = "jaynes.toml"  # where a finding about the run is shown that does not say where it is from

_OF_THE_HUB = re.compile(r"^hf://(?P<repo>[^@]*)(?:@[^/]*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A finding, the file and the line it is shown at, and a fingerprint that no other finding of the report has.

    `place` is the file as it was named: a path, or an address on the Hub; `in_repository` gives its place in there.
    Of several findings with one fingerprint `ordinal` counts them, from 1.
    """

    finding: "FindingRecord"
    place: str
    line: int
    about_tensor: bool
    fingerprint: str
    ordinal: int = 1

    @property
    def unique(self) -> str:
        """The fingerprint, and of findings that share one their number."""
        return self.fingerprint if self.ordinal == 1 else f"{self.fingerprint}-{self.ordinal}"


def located(report: "ReportRecord") -> list[Located]:
    """Give all new findings, those of the run after those of the models at each level."""
    found = [
        *(_located(finding, model) for model in report.models for finding in model.findings),
        *(_located(finding, None) for finding in report.findings),
    ]
    new = sorted((each for each in found if each.finding.status == "new"), key=_level)
    return list(_numbered(new))


def left_out(report: "ReportRecord") -> int:
    """Count the findings that are known: ignored or in the baseline."""
    every = [*(finding for model in report.models for finding in model.findings), *report.findings]
    return sum(finding.status != "new" for finding in every)


def is_on_hub(place: str) -> bool:
    """Whether a file lies on the Hub, and so in no repository of the user."""
    return place.startswith("hf://")


def names_a_file(place: str) -> bool:
    """Whether a path is more than the working directory, or the root."""
    return in_repository(place) not in {"", "/"}


def in_repository(place: str) -> str:
    """Give a path as the repository knows it: without `./` and `../`, and a file on the Hub below the model's name.

    An absolute path stays absolute: only who knows where the repository lies can tell its place in it.
    """
    path = normpath(_OF_THE_HUB.sub(lambda found: found["repo"], place, count=1))
    if path.startswith("/"):
        return f"/{path.lstrip('/')}"
    return "/".join(part for part in path.split("/") if part not in {"", ".", ".."})


def _located(finding: "FindingRecord", model: "ModelRecord | None") -> Located:
    place = finding.line.file if finding.line else _file_of(finding, model)
    name = model_name(model.target) if model else ""
    of_file = finding.stored is not None and finding.stored.offset is None
    return Located(
        finding=finding,
        place=place if names_a_file(place) else USUAL_CONFIGURATION,
        line=max(1, finding.line.line) if finding.line else 1,
        about_tensor=model is not None and finding.subject != model.target and not of_file,
        fingerprint=finding.fingerprint or fingerprint(finding.rule, name, finding.subject),
    )


def _file_of(finding: "FindingRecord", model: "ModelRecord | None") -> str:
    if finding.stored:
        return finding.stored.file
    if model is None:
        return USUAL_CONFIGURATION
    return model.files[0] if model.files else model.target


def _level(located: Located) -> int:
    return LEVELS.index(located.finding.level)


def _numbered(every: list[Located]) -> Iterator[Located]:
    seen: Counter[str] = Counter()
    for each in every:
        seen[each.fingerprint] += 1
        yield replace(each, ordinal=seen[each.fingerprint])
