"""Files that are no checkpoint of any format, told by their first bytes, and what to do about each.

Sources of the magic bytes: the git-lfs pointer specification, APPNOTE.TXT 4.3.7 (zip), and `file(1)` for the
compressors.
"""

import re
from dataclasses import dataclass

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.errors import RefusedFile

PROBE = 512
"""How many first bytes suffice to tell every kind below; "ustar" stands at 257."""

EXCERPT = 60
FETCH = "the download went wrong: look at the address and the access rights, and fetch the file again"
UNPACK = "unpack it first"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file: the pattern that its first bytes match, its name in words, and the remedy."""

    case: str
    pattern: re.Pattern[bytes]
    name: str
    remedy: str


def _kind(case: str, pattern: bytes, name: str, remedy: str) -> Kind:
    return Kind(case, re.compile(pattern, re.DOTALL | re.IGNORECASE), name, remedy)


BLANK = rb"(?:\xef\xbb\xbf)?\s*"

KINDS: tuple[Kind, ...] = (
    _kind(
        "git-lfs-pointer",
        rb"version https://git-lfs",
        "a git-lfs pointer and not the weights it stands for",
        "run `git lfs pull`",
    ),
    _kind("html-page", BLANK + rb"<(?:!doctype html|html)", "an HTML page, such as a login or an error page", FETCH),
    _kind("xml-page", BLANK + rb"<\?xml", "XML text, such as the error answer of a storage server", FETCH),
    _kind("zip-archive", rb"PK(?:\x03\x04|\x05\x06)", "a zip archive of no format known here", UNPACK),
    _kind("gzip", rb"\x1f\x8b", "compressed with gzip", UNPACK),
    _kind("zstd", rb"\x28\xb5\x2f\xfd", "compressed with zstd", UNPACK),
    _kind("xz", rb"\xfd7zXZ\0", "compressed with xz", UNPACK),
    _kind("bzip2", rb"BZh[1-9]", "compressed with bzip2", UNPACK),
    _kind("tar", rb".{257}ustar", "a tar archive", UNPACK),
)


def refuse_foreign(head: bytes) -> None:
    """Refuse a file whose first bytes (up to `PROBE` of them) are those of a known kind; say nothing otherwise.

    Raises:
        RefusedFile: JN002, naming the kind and the remedy.
    """
    for kind in KINDS:
        if kind.pattern.match(head):
            raise RefusedFile(f"this is {kind.name}; {kind.remedy}", rule="JN002", case=kind.case)
    text = _readable(head)
    if not text:
        return
    beginning = quoted(text, longest=EXCERPT)
    if text[0] in "{[":
        case, fault = "json-text", f"JSON text, an error answer or a settings file, beginning {beginning}"
    else:
        case, fault = "plain-text", f"text, perhaps an error message, beginning {beginning}"
    remedy = "name the file with the weights, or fetch it again"
    raise RefusedFile(f"this is {fault}; {remedy}", rule="JN002", case=case)


def unknown_refusal(head: bytes) -> RefusedFile:
    """The refusal of a file that nothing is known about but its first bytes."""
    return RefusedFile(
        f"this is no checkpoint format known here: it begins with the bytes {head[:8].hex(' ')}; "
        "name a file of weights",
        rule="JN002",
        case="unknown-bytes",
    )


def _readable(head: bytes) -> str:
    """The first bytes as text, without blanks around them, or nothing when they are not text."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # the probe may end in the middle of a character of up to four bytes
            return ""
        text = head[: error.start].decode("utf-8-sig")
    text = text.strip()
    return text if all(character.isprintable() or character.isspace() for character in text) else ""
