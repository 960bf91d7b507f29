"""Whether a file's bytes are those that the Hub's listing names by digest."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from jaynes_audit.analyzers.checkpoints.hub.digests import digest, digest_name, listed_digest
from jaynes_audit.analyzers.checkpoints.hub.place import HubPlace
from jaynes_audit.analyzers.checkpoints.tensor import Defect

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
    with place.opened() as (stream, _):
        found = digest(stream, file)
    expected = listed_digest(file)
    if found == expected:
        return None
    return Defect(
        rule="JN007",
        case="digest-mismatch",
        file=str(place),
        sentence=(
            f"its {digest_name(file)} is {found} where the Hub lists {expected}: the bytes that came are not the ones "
            "that were uploaded; fetch the file again"
        ),
    )
