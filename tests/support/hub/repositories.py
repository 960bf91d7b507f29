"""Model repositories: their commits, the names of these, and who may read them."""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.support.hub.content import CommittedFile, committed_file
from tests.support.hub.synthetic import Synthetic

Files = Mapping[str, bytes | Path | Synthetic | None]
"""What a commit changes, by path; None deletes the file."""

SHORTEST_SHA = 7  # the Hub resolves abbreviated commits from this many digits on


@dataclass(slots=True, kw_only=True)
class Repo:
    """One model repository; it changes as a real one does, so tests may change it too.

    `readers` are the tokens that may read it when it is private or gated. `commits` gives each commit's files by path;
    a commit taken out of it is gone, as after a history was rewritten. `refs` are the branches (and pull requests,
    `refs/pr/1`), `tags` the tags: names of commits.
    """

    repo_id: str
    private: bool = False
    gated: Literal["auto", "manual", False] = False
    disabled: bool = False
    readers: Collection[str] = ()
    commits: dict[str, Mapping[str, CommittedFile]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, tag, commit or abbreviated commit means; None when there is none."""
        sha = self.refs.get(revision) or self.tags.get(revision) or revision
        if sha in self.commits:
            return sha
        abbreviated = re.fullmatch(rf"[0-9a-f]{{{SHORTEST_SHA},39}}", revision) is not None
        candidates = [sha for sha in self.commits if abbreviated and sha.startswith(revision)]
        return candidates[0] if len(candidates) == 1 else None

    def add_commit(self, files: Files, *, ref: str, replace: bool) -> str:
        """Let `ref` be a new commit with these files, beside those it had unless they are replaced; its sha."""
        parent = self.refs.get(ref)
        tree = {} if replace or parent is None else dict(self.commits[parent])
        for path, source in files.items():
            if source is None:
                tree.pop(path, None)
            else:
                tree[path] = committed_file(path, source)
        identity = [self.repo_id, parent, sorted((path, file.oid) for path, file in tree.items())]
        sha = hashlib.sha1(json.dumps(identity).encode(), usedforsecurity=False).hexdigest()
        self.commits[sha] = tree
        self.refs[ref] = sha
        return sha
