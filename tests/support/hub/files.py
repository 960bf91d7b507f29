"""How a file is got from the Hub: small ones from itself, large ones from the CDN at a signed address."""

import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

from tests.support.hub.content import CommittedFile, InMemory
from tests.support.hub.exchange import BYTES, TEXT, XML, Answer, Request, refusal
from tests.support.hub.site import Site, commit_of

RESOLVE_CACHE = "/api/resolve-cache/models/"


def resolve_answer(site: Site, request: Request) -> Answer:
    """The answer to /{repository}/resolve/{revision}/{path}: where the file is, or the file.

    Raises:
        Refused: when it is an error.
    """
    quota = site.count("resolvers")
    address = re.fullmatch(r"/(.+?)/resolve/([^/]+)/(.+)", request.path)
    if address is None:
        raise refusal(404, None, "Sorry, we can't find the page you are looking for.")
    repo_id, revision, path = address.groups()
    repo = site.readable(repo_id, request)
    sha = commit_of(repo, unquote(revision))
    headers = {**quota, "X-Repo-Commit": sha}
    file = repo.commits[sha].get(unquote(path))
    if file is None:
        raise refusal(404, "EntryNotFound", "Entry not found", headers)
    if file.sha256 is not None and site.lfs_redirect:
        location = site.signer.signed(site.cdn, file.sha256, file_name=file.path.rpartition("/")[2])
        return _elsewhere(302, file, location, headers)
    if file.sha256 is None and site.small_redirect:
        origin = quote(request.path, safe="")
        location = f"{RESOLVE_CACHE}{repo_id}/{sha}/{quote(file.path)}?{origin}=&etag=%22{file.etag}%22"
        return _elsewhere(307, file, location, headers)
    return _whole(file, headers)


def resolve_cache_answer(site: Site, request: Request) -> Answer:
    """The answer to the address that a small file is redirected to: the file.

    Raises:
        Refused: when it is an error.
    """
    address = re.fullmatch(RESOLVE_CACHE + r"(.+?)/([0-9a-f]{40})/(.+)", request.path)
    if address is not None:
        repo_id, sha, path = address.groups()
        file = site.readable(repo_id, request).commits.get(sha, {}).get(unquote(path))
        if file is not None:
            return _whole(file, {"X-Repo-Commit": sha})
    raise refusal(404, "EntryNotFound", "Entry not found")


def cdn_answer(site: Site, request: Request) -> Answer:
    """The answer of the CDN: the file, when the address is signed and its time is not over.

    A token must never arrive here. If one does the answer is an error, as it is from a bucket that takes only one way
    of asking, and the log shows it.
    """
    sha256 = request.path.rpartition("/")[2]
    if "authorization" in request.headers:
        return _bucket_error(400, "InvalidArgument", "Only one auth mechanism allowed")
    if not site.signer.is_valid(sha256, request.query):
        return _bucket_error(403, "AccessDenied", "Access denied: expired")
    return _whole(site.blobs[sha256], {"Cache-Control": "public, max-age=31536000"})


def _elsewhere(status: int, file: CommittedFile, location: str, headers: Mapping[str, str]) -> Answer:
    about = {
        "Content-Type": TEXT,
        "Accept-Ranges": "bytes",
        "Location": location,
        "X-Linked-Size": str(file.content.size),
        "X-Linked-ETag": f'"{file.etag}"',
    }
    return Answer(status=status, content=InMemory(f"Redirecting to {location}".encode()), headers={**about, **headers})


def _whole(file: CommittedFile, headers: Mapping[str, str]) -> Answer:
    about = {"Content-Type": BYTES, "Accept-Ranges": "bytes", "ETag": f'"{file.etag}"'}
    return Answer(status=200, content=file.content, headers={**about, **headers})


def _bucket_error(status: int, code: str, message: str) -> Answer:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Answer(status=status, content=InMemory(text.encode()), headers={"Content-Type": XML})
