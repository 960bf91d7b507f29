"""The Hub's API, as far as the client needs it to read a model. Source: huggingface_hub 1.30 and 2.4."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import parse_qs, unquote, urlencode

from tests.support.hub.content import CommittedFile, lfs_pointer, read
from tests.support.hub.exchange import Answer, Request, as_json, refusal
from tests.support.hub.repositories import Repo
from tests.support.hub.site import Site, commit_of

MODELS = "/api/models/"
DATE = "2026-01-01T00:00:00.000Z"  # of everything: nothing here depends on the clock
LARGEST_EXPANDED_PAGE = 50  # files in one answer that tells all of each
REPEATED_CONFIG = ("architectures", "model_type", "quantization_config")

Tree = Mapping[str, CommittedFile]
Row = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """What is asked about a repository that the caller may see."""

    site: Site
    repo: Repo
    request: Request
    rest: str


def api_answer(site: Site, request: Request) -> Answer:
    """The answer to a request under /api/.

    Raises:
        Refused: when it is an error.
    """
    match request.path:
        case "/api/agent-harnesses":
            return as_json({"standardEnvVars": [], "harnesses": {}})
        case "/api/whoami-v2":
            return _whoami(site, request)
    quota = site.count("api")
    repo_id, kind, rest = _parts(request.path)
    question = _Question(site=site, repo=site.visible(repo_id, request), request=request, rest=rest)
    answer = _ANSWERS[kind](question)
    return replace(answer, headers={**answer.headers, **quota})


def _parts(path: str) -> tuple[str, str, str]:
    """The repository, the kind of question that is asked about it, and the rest of the path, still percent-encoded."""
    names = path.removeprefix(MODELS).split("/")
    for at in (1, 2):  # a repository such as `gpt2` has no owner
        if path.startswith(MODELS) and names[at : at + 1] and names[at] in _ANSWERS:
            return "/".join(names[:at]), names[at], "/".join(names[at + 1 :])
    return "/".join(names), "revision", "main"


def _whoami(site: Site, request: Request) -> Answer:
    if request.token is None or not site.knows(request.token):
        raise refusal(401, None, "Invalid username or password.")
    access = {"displayName": "test", "role": "read"}
    return as_json({"type": "user", "name": "tester", "orgs": [], "auth": {"accessToken": access}})


def _authorised(asked: _Question) -> Answer:
    asked.site.readable(asked.repo.repo_id, asked.request)
    return as_json({})


def _refs(asked: _Question) -> Answer:
    rows: dict[str, list[Row]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    for name, sha in asked.repo.refs.items():
        is_pull_request = name.startswith("refs/pr/")
        ref = name if is_pull_request else f"refs/heads/{name}"
        rows["pullRequests" if is_pull_request else "branches"].append({"name": name, "ref": ref, "targetCommit": sha})
    rows["tags"] = [
        {"name": name, "ref": f"refs/tags/{name}", "targetCommit": sha} for name, sha in asked.repo.tags.items()
    ]
    return as_json(rows)


def _model_info(asked: _Question) -> Answer:
    repo = asked.repo
    sha = commit_of(repo, unquote(asked.rest))
    tree = repo.commits[sha]
    with_sizes = asked.request.query.get("blobs", "").lower() == "true"
    info = {
        "_id": "0" * 24,
        "id": repo.repo_id,
        "modelId": repo.repo_id,
        "author": repo.repo_id.partition("/")[0],
        "sha": sha,
        "lastModified": DATE,
        "createdAt": DATE,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": repo.disabled,
        "downloads": 0,
        "likes": 0,
        "tags": ["safetensors"],
        "library_name": "transformers",
        "usedStorage": sum(file.content.size for file in tree.values()),
        "siblings": [_sibling(file, with_sizes=with_sizes) for _, file in sorted(tree.items())],
        "config": _config(tree),
    }
    wanted = {value for name, value in asked.request.parameters if name == "expand"}
    return as_json({key: info[key] for key in info if not wanted or key in {"_id", "id", *wanted}})


def _sibling(file: CommittedFile, *, with_sizes: bool) -> Row:
    if not with_sizes:
        return {"rfilename": file.path}
    row: Row = {"rfilename": file.path, "blobId": file.oid, "size": file.content.size}
    return row if file.sha256 is None else {**row, "lfs": {"sha256": file.sha256, **_lfs_sizes(file)}}


def _lfs_sizes(file: CommittedFile) -> Row:
    size = file.content.size
    return {"size": size, "pointerSize": len(lfs_pointer(file.sha256 or "", size))}


def _config(tree: Tree) -> Row:
    try:
        config = json.loads(read(tree["config.json"].content))
        return {key: config[key] for key in REPEATED_CONFIG if key in config}
    except (KeyError, TypeError, ValueError):  # there is none, or none that can be read
        return {}


def _paths(asked: _Question) -> Answer:
    tree = asked.repo.commits[commit_of(asked.repo, unquote(asked.rest))]
    wanted = parse_qs(asked.request.body.decode()).get("paths", [])
    files = [_file_row(tree[path]) for path in wanted if path in tree]
    folders = {folder for path in tree for folder in _folders_of(path)}
    return as_json([*files, *(_folder_row(path) for path in wanted if path in folders)])


def _tree(asked: _Question) -> Answer:
    site, query = asked.site, asked.request.query
    revision, _, folder = asked.rest.partition("/")
    sha = commit_of(asked.repo, unquote(revision))
    prefix = unquote(folder).strip("/") + "/" if folder else ""
    expanded = query.get("expand", "").lower() == "true"
    recursive = query.get("recursive", "").lower() == "true"
    rows = list(_rows(asked.repo.commits[sha], prefix, recursive=recursive))
    if prefix and not rows:
        raise refusal(404, "EntryNotFound", f'{prefix} does not exist on "{sha}"')
    page = min(int(query.get("limit", site.page_size)), LARGEST_EXPANDED_PAGE if expanded else site.page_size)
    start = int(query.get("cursor", 0))
    headers = {}
    if start + page < len(rows):
        following = urlencode({**query, "cursor": start + page})
        headers["Link"] = f'<{site.endpoint}{asked.request.path}?{following}>; rel="next"'
    if expanded:
        more = {
            "lastCommit": {"id": sha, "title": "Upload", "date": DATE},
            "securityFileStatus": {"status": "safe", "avScan": {"status": "safe"}, "pickleImportScan": None},
        }
        rows = [{**row, **more} for row in rows]
    return as_json(rows[start : start + page], headers=headers)


def _rows(tree: Tree, prefix: str, *, recursive: bool) -> Iterator[Row]:
    """The folders and files below the prefix, or only those directly below it; a folder comes before what is in it."""
    seen = set()
    for path, file in sorted(tree.items()):
        if not path.startswith(prefix):
            continue
        within = path.removeprefix(prefix)
        for folder in _folders_of(within):
            if folder not in seen and (recursive or "/" not in folder):
                seen.add(folder)
                yield _folder_row(prefix + folder)
        if recursive or "/" not in within:
            yield _file_row(file)


def _folders_of(path: str) -> list[str]:
    """All folders that the file is in, the outermost first."""
    names = path.split("/")
    return ["/".join(names[:depth]) for depth in range(1, len(names))]


def _folder_row(path: str) -> Row:
    return {"type": "directory", "oid": hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest(), "path": path}


def _file_row(file: CommittedFile) -> Row:
    row: Row = {"type": "file", "oid": file.oid, "size": file.content.size, "path": file.path}
    return row if file.sha256 is None else {**row, "lfs": {"oid": file.sha256, **_lfs_sizes(file)}}


_ANSWERS: dict[str, Callable[[_Question], Answer]] = {
    "auth-check": _authorised,
    "paths-info": _paths,
    "refs": _refs,
    "revision": _model_info,
    "tree": _tree,
}
