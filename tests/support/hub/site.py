"""What a Hub holds and how it is set up: all that its answers depend on beside the request."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tests.support.hub.content import CommittedFile
from tests.support.hub.exchange import Request, refusal
from tests.support.hub.quotas import Bucket, Quotas
from tests.support.hub.repositories import Repo
from tests.support.hub.signing import UrlSigner


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The Hub and its CDN, each at its origin. `blobs` are all LFS files by their sha256.

    `known_tokens` are the tokens that exist; when there are none, any token does.
    """

    endpoint: str
    cdn: str
    repos: dict[str, Repo]
    blobs: dict[str, CommittedFile]
    signer: UrlSigner
    quotas: Quotas
    page_size: int
    lfs_redirect: bool
    small_redirect: bool
    known_tokens: Collection[str]

    def count(self, bucket: Bucket) -> Mapping[str, str]:
        """The quota headers of the answer to a request that is counted now.

        Raises:
            Refused: when the quota is used up.
        """
        spent = self.quotas.spend(bucket)
        if spent.exhausted:
            raise refusal(429, None, "We had to rate limit your IP. To continue, pass a HF_TOKEN.", spent.headers)
        return spent.headers

    def knows(self, token: str) -> bool:
        """Whether the token is one of a user."""
        return not self.known_tokens or token in self.known_tokens

    def visible(self, repo_id: str, request: Request) -> Repo:
        """The repository, when the caller may know that it exists. What a gated one consists of is public.

        Raises:
            Refused: otherwise, in the words of the Hub.
        """
        token = request.token
        if token is not None and not self.knows(token):
            raise refusal(401, None, "Invalid credentials in Authorization header")
        repo = self.repos.get(repo_id)
        if repo is None or (repo.private and token not in repo.readers):
            # Whoever may not see a private repository must not learn that there is one.
            raise refusal(401 if token is None else 404, "RepoNotFound", "Repository not found")
        if repo.disabled:
            raise refusal(403, None, "Access to this resource is disabled.")
        return repo

    def readable(self, repo_id: str, request: Request) -> Repo:
        """The repository, when the caller may read its files.

        Raises:
            Refused: otherwise, in the words of the Hub.
        """
        repo = self.visible(repo_id, request)
        if repo.gated and request.token not in repo.readers:
            restricted = f"Access to model {repo_id} is restricted."
            if request.token is None:
                raise refusal(
                    401, "GatedRepo", f"{restricted} You must have access to it and be authenticated. Please log in."
                )
            raise refusal(403, "GatedRepo", f"{restricted} Visit {self.endpoint}/{repo_id} to ask for access.")
        return repo


def commit_of(repo: Repo, revision: str) -> str:
    """The commit that a revision means.

    Raises:
        Refused: when there is none.
    """
    sha = repo.resolve(revision)
    if sha is None:
        raise refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return sha
