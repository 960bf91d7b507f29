"""The branches and tags of a model on the Hub.

The answer is that which huggingface_hub's `HfApi.list_repo_refs` reads: lists of objects with a name and a commit.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from jaynes_audit.analyzers.checkpoints.hub.client import Client
from jaynes_audit.analyzers.checkpoints.hub.location import HubLocation, hub_location
from jaynes_audit.analyzers.errors import CouldNotRead, UsageError

KINDS = ("branches", "tags")  # conversions and pull requests are no versions that the model's owner made

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A name of a version, and the commit that it stands for now."""

    name: str
    commit: str


def references(repo: str, client: Client) -> tuple[Reference, ...]:
    """List the branches and tags of a model, in the Hub's order, each name once; a branch wins over a tag.

    Names that cannot be written as a revision are left out.

    Raises:
        CouldNotRead: when there is no such model for this token, or the Hub cannot be asked.
    """
    asked = client.asked(repo)
    answer, _ = client.get_json(f"{client.endpoint}/api/models/{repo}/refs", asked)
    try:
        found = [reference for kind in KINDS for reference in _listed(answer, kind)]
    except (TypeError, KeyError, ValueError):
        raise CouldNotRead(
            f"the Hub's list of the versions of {asked} is not what a Hub answers; check HF_ENDPOINT"
        ) from None
    by_name = {each.name: each for each in reversed(found) if _is_writable(repo, each.name)}
    return tuple(reversed(by_name.values()))


def _listed(answer: object, kind: str) -> Iterator[Reference]:
    """Raises TypeError, KeyError or ValueError where the answer makes no sense."""
    if not isinstance(answer, dict):
        raise TypeError
    for row in answer[kind]:
        name, commit = row["name"], row["targetCommit"]
        if not (isinstance(name, str) and isinstance(commit, str) and _COMMIT.fullmatch(commit)):
            raise ValueError
        yield Reference(name=name, commit=commit)


def _is_writable(repo: str, name: str) -> bool:
    location = HubLocation(repo=repo, revision=name)
    try:
        return hub_location(str(location)) == location
    except (UsageError, UnicodeError):  # UnicodeError: half of a surrogate pair cannot be percent-encoded
        return False
