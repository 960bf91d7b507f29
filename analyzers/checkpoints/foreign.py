"""Files that are no checkpoint this version reads, told by their first bytes, and what to do about each.

Sources of the magic bytes: the git-lfs pointer specification, APPNOTE.TXT 4.3.7 (zip), the GGUF, HDF5, NumPy and
TFLite format pages, PyTorch's `torch/serialization.py` (MAGIC_NUMBER), and `file(1)` for the compressors.
"""

import re
from dataclasses import dataclass

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.errors import RefusedFile

PROBE = 512
"""How many first bytes suffice to tell every kind below; "ustar" stands at 257."""

EXCERPT = 60
CONVERT = "convert it to safetensors and audit that"
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
    _kind("pytorch-zip", rb"PK\x03\x04.*data\.pkl", "a PyTorch file (zip with a pickle, .bin or .pt)", CONVERT),
    _kind("numpy-zip", rb"PK\x03\x04.{26}[\x20-\x7e]*\.npy", "a NumPy archive (.npz)", CONVERT),
    _kind("zip-archive", rb"PK(?:\x03\x04|\x05\x06)", "a zip archive", CONVERT),
    _kind("gguf", rb"GGUF", "a GGUF file", "audit the safetensors files that it was made from"),
    _kind("hdf5", rb"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5)", CONVERT),
    _kind("numpy-array", rb"\x93NUMPY", "a NumPy array (.npy)", CONVERT),
    _kind(
        "pytorch-legacy", rb"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9", "a PyTorch file in the format before 1.6", CONVERT
    ),
    _kind("pickle", rb"\x80[\x02-\x05]", "a Python pickle, which can run code when it is loaded", CONVERT),
    _kind("tflite", rb".{4}TFL3", "a TensorFlow Lite model", CONVERT),
    _kind("onnx", rb"\x08[\x01-\x20]\x12", "an ONNX model", CONVERT),
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
        "name a safetensors file",
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
