"""The loopback Hub: what a test does with it."""

from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, Unpack

from tests.support.hub.api import api_answer
from tests.support.hub.exchange import Answer, Record, Request
from tests.support.hub.faults import Fault, PlannedFault
from tests.support.hub.files import RESOLVE_CACHE, cdn_answer, resolve_answer, resolve_cache_answer
from tests.support.hub.origin import LOOPBACK, Origin, Wire
from tests.support.hub.quotas import Bucket, Quotas
from tests.support.hub.repositories import Files, Repo
from tests.support.hub.signing import UrlSigner
from tests.support.hub.site import Site

ROWS_A_PAGE = 1000  # of a listing, on the Hub
URL_LIFETIME_S = 3600.0  # on the Hub
QUOTA_WINDOW_S = 300  # on the Hub


class Access(TypedDict, total=False):
    """Who may read a repository, as `Repo` has it; what is left out stays as it was."""

    private: bool
    gated: Literal["auto", "manual", False]
    disabled: bool
    readers: Collection[str]


class LoopbackHub:
    """A Hub at `endpoint` and its CDN at `cdn`, from construction until `close` or the end of the `with` block.

    `page_size` is the rows in one answer of a listing. `url_ttl` is how long a signed address is good, in seconds.
    Without `lfs_redirect` the Hub gives out large files itself, as a mirror does; without `small_redirect`, small ones.
    `api_limit` and `resolvers_limit` are how many requests of each kind are served in `window` seconds, if there is a
    limit. `known_tokens` are the tokens that exist; when there are none, any token does.
    """

    def __init__(
        self,
        *,
        page_size: int = ROWS_A_PAGE,
        url_ttl: float = URL_LIFETIME_S,
        lfs_redirect: bool = True,
        small_redirect: bool = True,
        resolvers_limit: int | None = None,
        api_limit: int | None = None,
        window: int = QUOTA_WINDOW_S,
        known_tokens: Collection[str] = (),
    ) -> None:
        limits: dict[Bucket, int | None] = {"resolvers": resolvers_limit, "api": api_limit}
        self._wire = Wire()
        self._hub = Origin("hub", self._hub_answer, self._wire)
        self._cdn = Origin("cdn", self._cdn_answer, self._wire)
        self._site = Site(
            endpoint=f"http://{LOOPBACK}:{self._hub.server_port}",
            # Another name as well as another port, so that the client must see another origin.
            cdn=f"http://localhost:{self._cdn.server_port}",
            repos={},
            blobs={},
            signer=UrlSigner(lifetime_s=url_ttl),
            quotas=Quotas({bucket: limit for bucket, limit in limits.items() if limit is not None}, window_s=window),
            page_size=page_size,
            lfs_redirect=lfs_redirect,
            small_redirect=small_redirect,
            known_tokens=frozenset(known_tokens),
        )

    @property
    def endpoint(self) -> str:
        """The Hub's address, for HF_ENDPOINT."""
        return self._site.endpoint

    @property
    def cdn(self) -> str:
        """The CDN's address."""
        return self._site.cdn

    @property
    def repos(self) -> dict[str, Repo]:
        """All repositories by their names; a test may change what they hold."""
        return self._site.repos

    @property
    def log(self) -> list[Record]:
        """The requests so far, to both origins."""
        return self._wire.log

    # ---- what it holds

    def commit(
        self, repo_id: str, files: Files, ref: str = "main", *, replace: bool = False, **access: Unpack[Access]
    ) -> str:
        """Add a commit to a branch, beside the files it had or in their place; the commit's sha.

        The repository and the branch are made when there are none. The sha follows from what was committed before.
        """
        repo = self.repos.setdefault(repo_id, Repo(repo_id=repo_id))
        for name, value in access.items():
            setattr(repo, name, value)
        sha = repo.add_commit(files, ref=ref, replace=replace)
        self._site.blobs.update({file.sha256: file for file in repo.commits[sha].values() if file.sha256 is not None})
        return sha

    def add_directory(self, repo_id: str, root: Path, ref: str = "main", **access: Unpack[Access]) -> str:
        """Add a commit that holds the files below a folder and no others; the commit's sha."""
        files = {file.relative_to(root).as_posix(): file for file in root.rglob("*") if file.is_file()}
        return self.commit(repo_id, files, ref, replace=True, **access)

    def tag(self, repo_id: str, name: str, sha: str) -> None:
        """Give a commit a name that stays."""
        self.repos[repo_id].tags[name] = sha

    # ---- what goes wrong

    def fault(self, **options: Any) -> PlannedFault:
        """Let this go wrong, by the options of `Fault`, when its requests come; what is returned counts its hits."""
        return self._wire.faults.add(Fault(**options))

    def expire_urls(self) -> None:
        """Let the time of all signed addresses given out so far be over."""
        self._site.signer.expire()

    def clear(self) -> None:
        """Forget the faults, the log and what was counted for the quotas."""
        self._wire.faults.clear()
        self._wire.log.clear()
        self._site.quotas.renew()

    # ---- life

    def close(self) -> None:
        """Stop both origins, and whatever they are still sending.

        Raises:
            BaseException: the first error of the Hub itself, if there was one.
        """
        self._wire.closing.set()
        self._hub.stop()
        self._cdn.stop()
        if self._wire.failures:
            raise self._wire.failures[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- what it answers

    def _hub_answer(self, request: Request) -> Answer:
        if request.path.startswith(RESOLVE_CACHE):
            return resolve_cache_answer(self._site, request)
        if request.path.startswith("/api/"):
            return api_answer(self._site, request)
        return resolve_answer(self._site, request)

    def _cdn_answer(self, request: Request) -> Answer:
        return cdn_answer(self._site, request)
