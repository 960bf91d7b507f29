"""Baseline, model now -> findings: files whose bytes are not the ones that were approved."""

from collections.abc import Iterator
from dataclasses import replace

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.baseline.entry import Baseline
from jaynes_audit.analyzers.checkpoints.file_digests import HashedFiles
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.rules import Finding
from jaynes_audit.analyzers.rules.files import DIGEST_MISMATCH
from jaynes_audit.analyzers.rules.policy import Policy

SHOWN = 12  # hexadecimal digits that tell one file from any other that a project has
EXPORT_AGAIN = "export it again, or accept it into the baseline"


def other_files(
    before: Baseline, now: Baseline, audit: Audit, hashed: HashedFiles, policy: Policy
) -> Iterator[Finding]:
    """Give the files that are not those of the baseline, by name and SHA-256; none where it has no digests.

    `hashed` are the files of `now`. A file that has been told of as damaged is not told of once more, and one that was
    refused is not called missing.
    """
    if not before.files or not policy.asks(DIGEST_MISMATCH):
        return
    refused = {each.file for each in audit.defects}
    damaged = {each.file for each in audit.defects if each.rule == DIGEST_MISMATCH.code}
    here = {each.name for each in now.files}
    for name, sentence in _told(before, now):
        subject = hashed.address(name)
        if subject not in (damaged if name in here else refused):
            finding = DIGEST_MISMATCH.finding(subject, sentence)
            yield replace(finding, level=policy.level_of(finding))


def _told(before: Baseline, now: Baseline) -> Iterator[tuple[str, str]]:
    """The files that differ, and how."""
    then, here = ({each.name: each.sha256 for each in files} for files in (before.files, now.files))
    names = {sha256: name for name, sha256 in reversed(then.items())}
    for name, sha256 in then.items():
        if name not in here:
            yield name, f"the baseline has it, and it is not among the files of this model; {EXPORT_AGAIN}"
        elif here[name] != sha256:
            yield name, f"its sha256 is {here[name][:SHOWN]} where the baseline has {sha256[:SHOWN]}; {EXPORT_AGAIN}"
    for name, sha256 in here.items():
        if name not in then:
            same = f"has the bytes of {quoted(names[sha256])} in" if sha256 in names else "is no file of"
            yield name, f"its sha256 is {sha256[:SHOWN]}, and it {same} the baseline; {EXPORT_AGAIN}"
