"""The digest that the Hub names a file by.

A large file has the sha256 of its content, and a small one its git blob id: the sha1 of `blob`, its length, a NUL byte
and the content (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects).
"""

import hashlib
from io import BufferedReader
from typing import TYPE_CHECKING, BinaryIO, cast

from jaynes_audit.analyzers.checkpoints.hub.repository import HubFile

if TYPE_CHECKING:
    from hashlib import _Hash

AT_ONCE_BYTES = 16 << 20


def listed_digest(file: HubFile) -> str:
    """Give the digest that the listing has."""
    return file.sha256 or file.git_blob


def digest_name(file: HubFile) -> str:
    """Say which digest that is."""
    return "sha256" if file.sha256 else "git blob id"


def digest(stream: BinaryIO, file: HubFile) -> str:
    """Give the digest, of the kind that the listing has for the file, of all that a stream holds."""
    hasher = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
    return fed(hasher, stream, file.size_bytes).hexdigest()


def fed(hasher: "_Hash", stream: BinaryIO, size_bytes: int) -> "_Hash":
    """Give a hash all that a stream still holds, about `size_bytes` of it, in pieces of AT_ONCE_BYTES."""
    buffer = memoryview(bytearray(min(AT_ONCE_BYTES, size_bytes)))
    readable = cast("BufferedReader", stream)
    while length := readable.readinto(buffer):
        hasher.update(buffer[:length])
    return hasher
