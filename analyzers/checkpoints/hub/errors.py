"""What the Hub, the network and the cache say when they say no, as one sentence that tells what to do.

No word of theirs is passed on: an address may be signed, a header may hold a token, and anyone can write a name. The
codes are those of the Hub's answers (X-Error-Code), as huggingface_hub reads them in `hf_raise_for_status`.
"""

import errno
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from jaynes_audit.analyzers.checkpoints.hub.patience import Interrupted
from jaynes_audit.analyzers.checkpoints.quoted import quoted, quoted_path
from jaynes_audit.analyzers.errors import CouldNotRead

TRANSIENT_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""A later request may be answered: those that huggingface_hub asks again after, and those of proxies like them."""

UNAUTHORISED, FORBIDDEN, TOO_MANY, LEGAL = 401, 403, 429, 451
BAD_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105 - X-Error-Message, not a password
TOO_LARGE = "The file is too large to be downloaded"  # what huggingface_hub says above 50 GB
DISABLED = "Access to this resource is disabled."  # X-Error-Message

LOG_IN = "log in with 'hf auth login', or set HF_TOKEN"
HIGHER_LIMIT = "set HF_TOKEN if none is set, for the limit is higher with one"

_RATE_LIMIT = re.compile(r"r\s*=\s*(?P<left>\d{1,9})\s*;\s*t\s*=\s*(?P<seconds>\d{1,9})(?!\d)")
"""RateLimit: "resolvers";r=0;t=55 (draft-ietf-httpapi-ratelimit-headers-09)"""

_HOST = re.compile(r"[\w.:%-]{1,253}")  # RFC 1035, section 2.3.4; with letters of all languages, or an IPv6 address

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_UNUSABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked of the Hub, for the sentence that says why it was not got.

    `commit` is the pinned one, "" as long as none is.
    """

    repo: str
    endpoint: str
    authenticated: bool
    revision: str = ""
    commit: str = ""
    path: str = ""

    @property
    def page(self) -> str:
        """The model's page, where access to it is asked for."""
        return f"{without_credentials(self.endpoint)}/{self.repo}"

    def __str__(self) -> str:
        return f"{quoted_path(self.path)} of {quoted(self.repo)}" if self.path else quoted(self.repo)


def without_credentials(address: str) -> str:
    """An address without the name and password that may stand in it; of one that makes no sense, nothing."""
    parts = parts_of(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl() if parts else "the Hub"


def host_of(address: str) -> str:
    """The name of an address's host, fit for a sentence; "the server" where it has none, or one that no host has."""
    parts = parts_of(address)
    host = (parts and parts.hostname) or ""
    return host if _HOST.fullmatch(host) else "the server"


def parts_of(address: str) -> SplitResult | None:
    """The parts of an address; None when it makes no sense, down to its port."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    return None if port == 0 else parts


def refused(asked: Asked, status: int, headers: Mapping[str, str]) -> CouldNotRead:
    """Tell what the Hub answered that will not change by asking again."""
    code, message = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "")
    return CouldNotRead(_no_access(asked, status, code, message) or _not_there(asked, status, code))


def _no_access(asked: Asked, status: int, code: str, message: str) -> str:
    if code == "GatedRepo":
        return _gated(asked)
    if message == DISABLED or status == LEGAL:
        return f"{quoted(asked.repo)} has been disabled on the Hub; choose another model"
    if status == UNAUTHORISED and (message == BAD_TOKEN or asked.authenticated):
        return f"the Hub does not accept the token; {LOG_IN} to a valid one"
    if status == FORBIDDEN:
        return f"the Hub does not let {asked} be read; use a token that may read it, or ask its owner"
    return ""


def _not_there(asked: Asked, status: int, code: str) -> str:
    if code == "RevisionNotFound":
        return _no_revision(asked)
    if code == "EntryNotFound":
        return f"there is no file {asked}; name one that {asked.page} lists"
    if code == "RepoNotFound" or status == UNAUTHORISED:
        return _no_repo(asked)
    return f"the Hub answered {asked} with status {status}; look at {asked.page}, and run it again later"


def _gated(asked: Asked) -> str:
    if asked.authenticated:
        return (
            f"{quoted(asked.repo)} is gated and your token has no access to it; ask for access at {asked.page}, or use "
            "a token that may read gated models"
        )
    return f"{quoted(asked.repo)} is gated; ask for access at {asked.page}, then {LOG_IN}"


def _no_repo(asked: Asked) -> str:
    if asked.authenticated:
        return f"there is no model {quoted(asked.repo)} that your token may read; correct its name, or ask its owner"
    return f"there is no public model {quoted(asked.repo)} on the Hub; correct its name, or, if it is private, {LOG_IN}"


def _no_revision(asked: Asked) -> str:
    if asked.commit:
        return (
            f"commit {asked.commit[:12]} of {quoted(asked.repo)} is no longer on the Hub, which was changed during the "
            "audit; run it again"
        )
    return (
        f"{quoted(asked.repo)} has no revision {quoted(asked.revision)}; name a branch, a tag or a commit that "
        f"{asked.page}/tree/main lists"
    )


def interrupted_by_status(status: int, headers: Mapping[str, str]) -> Interrupted:
    """Tell what a server answered that may change, and how long it asks to wait."""
    wait = _wait_seconds(status, headers)
    if status == TOO_MANY:
        advice = f"wait {duration(wait)} and run it again, or {HIGHER_LIMIT}" if wait else HIGHER_LIMIT
        return Interrupted("the Hub's rate limit is reached", advice=advice, wait_seconds=wait)
    return Interrupted(f"the server answered with status {status}", wait_seconds=wait)


def _wait_seconds(status: int, headers: Mapping[str, str]) -> float | None:
    limit = _RATE_LIMIT.search(headers.get("RateLimit", ""))
    if status == TOO_MANY and limit and int(limit["left"]) == 0:
        return int(limit["seconds"]) + 1.0  # whole seconds, cut off
    after = headers.get("Retry-After", "").strip()
    if after.isascii() and after.isdigit():
        return float(after[:9])
    return None


def duration(seconds: float) -> str:
    """A wait, in the largest unit that says it well."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def gave_up(asked: Asked, failure: Interrupted) -> CouldNotRead:
    """Tell that asking again did not help."""
    return CouldNotRead(f"{asked} cannot be read: {failure}; {failure.advice}")


def changed(asked: Asked, what: str) -> CouldNotRead:
    """Tell that a server answered with something else than the pinned commit holds."""
    return CouldNotRead(
        f"{asked} is not what commit {asked.commit[:12]} lists: {what}; the model, or a mirror between it and here, "
        "changed during the audit: run it again"
    )


# ---- errors of the network


def interrupted_by(error: Exception, host: str) -> Interrupted | CouldNotRead:
    """Tell what broke a request to `host`: as what another may not meet, or as what every one will.

    `error` may be any of httpx or httpx2, of the operating system, or of huggingface_hub.
    """
    kinds = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    if "OfflineModeIsEnabled" in kinds:
        return CouldNotRead(f"HF_HUB_OFFLINE is set and {host} is needed; unset it, or audit what is in the cache")
    if "ProxyError" in kinds:
        return Interrupted(
            f"the proxy on the way to {host} refused", advice="correct HTTPS_PROXY or NO_PROXY", unreachable=True
        )
    if "ConnectError" in kinds or "ConnectTimeout" in kinds:
        return _unreachable(error, host)
    if "TimeoutException" in kinds:
        return Interrupted(f"{host} stopped to answer", advice="check the connection and run it again")
    return Interrupted(f"the connection to {host} was cut", advice="check the connection and run it again")


def _unreachable(error: Exception, host: str) -> Interrupted | CouldNotRead:
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CouldNotRead(
                f"the certificate of {host} is not trusted; correct the clock, or name your network's certificates in "
                "SSL_CERT_FILE"
            )
        if isinstance(cause, ssl.SSLError):
            return Interrupted(f"no secure connection to {host}", advice="check the proxy and HF_ENDPOINT")
        if isinstance(cause, socket.gaierror):
            return Interrupted(
                f"the name {host} cannot be found", advice="check the connection and HF_ENDPOINT", unreachable=True
            )
        if isinstance(cause, ConnectionRefusedError):
            return Interrupted(
                f"{host} refused the connection", advice="check the proxy and HF_ENDPOINT", unreachable=True
            )
    return Interrupted(
        f"{host} cannot be reached", advice="check the connection and the proxy, and run it again", unreachable=True
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from, at most ten of them: a chain may have a ring."""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


# ---- errors of a download into the cache


def not_downloaded(asked: Asked, error: Exception, *, cache: str) -> Interrupted | CouldNotRead:
    """Tell why huggingface_hub did not put a file into its cache: what another try may not meet, or what each will."""
    for cause in _chain(error):
        number = cause.errno if isinstance(cause, OSError) else None
        if number in _FULL:
            return CouldNotRead(
                f"no space for {asked} in the cache at {quoted_path(cache)}; make some, move the cache with HF_HOME, "
                "or read without storing with --stream"
            )
        if number in _UNUSABLE:
            return CouldNotRead(
                f"the cache at {quoted_path(cache)} cannot be written; change its access rights, move it with HF_HOME, "
                "or read without storing with --stream"
            )
        response = getattr(cause, "response", None)
        if response is not None:
            status, headers = int(response.status_code), response.headers
            if status in TRANSIENT_STATUSES:
                return interrupted_by_status(status, headers)
            if urlsplit(str(response.url)).netloc != urlsplit(asked.endpoint).netloc:
                return Interrupted(f"the storage server answered with status {status}")  # as for an expired address
            return refused(asked, status, headers)
    return _without_response(asked, error)


def _without_response(asked: Asked, error: Exception) -> Interrupted | CouldNotRead:
    kinds = {kind.__name__ for each in _chain(error) for kind in type(each).__mro__}
    if not kinds.isdisjoint({"OfflineModeIsEnabled", "HTTPError"}):
        return interrupted_by(error, host_of(asked.endpoint))
    if isinstance(error, ValueError) and TOO_LARGE in str(error):
        return CouldNotRead(
            f"{asked} is too large to download without hf_xet; install it with 'pip install hf_xet' and unset "
            "HF_HUB_DISABLE_XET, or read without storing with --stream"
        )
    return Interrupted("its download ended early", advice="run it again, or read without storing with --stream")
