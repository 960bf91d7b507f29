"""Whether a file's bytes are those that the Hub's listing names by digest.

The Hub names a large file by the sha256 of its content, and a small one by its git blob id: the sha1 of `blob`, its
length, a NUL byte and the content (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects).
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BufferedReader
from typing import cast

from jaynes_audit.analyzers.checkpoints.hub.place import HubPlace
from jaynes_audit.analyzers.checkpoints.hub.repository import HubFile
from jaynes_audit.analyzers.checkpoints.tensor import Defect

AT_ONCE_BYTES = 16 << 20
FILES_AT_ONCE = 4  # a core hashes some 1.5 GB/s, and each file is read in order by one thread


def verify(places: Sequence[HubPlace], *, at_once: int = FILES_AT_ONCE) -> tuple[Defect, ...]:
    """Compare the digests of files with those that the Hub lists: the defects, in the order of the files.

    Each file is read in order from where its place is read: the cache, or the Hub, and then nothing of it is kept.

    Raises:
        CouldNotRead: when a file cannot be read to its end.
    """
    with ThreadPoolExecutor(at_once) as threads:
        return tuple(defect for defect in threads.map(_defect, places) if defect)


def _defect(place: HubPlace) -> Defect | None:
    file = place.file
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
    for piece in _pieces(place, file):
        digest.update(piece)
    expected, found = file.sha256 or file.git_blob, digest.hexdigest()
    if found == expected:
        return None
    name = "sha256" if file.sha256 else "git blob id"
    return Defect(
        rule="JN007",
        case="digest-mismatch",
        file=str(place),
        sentence=(
            f"its {name} is {found} where the Hub lists {expected}: the bytes that came are not the ones that were "
            "uploaded; fetch the file again"
        ),
    )


def _pieces(place: HubPlace, file: HubFile) -> Iterator[memoryview]:
    """Give the whole file in order, a piece at a time, each valid until the next."""
    buffer = memoryview(bytearray(min(AT_ONCE_BYTES, file.size_bytes)))
    with place.opened() as (stream, _):
        while length := cast("BufferedReader", stream).readinto(buffer):
            yield buffer[:length]
