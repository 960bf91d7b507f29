"""What the user typed, as the checkpoints it means."""

import glob
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from jaynes_audit.analyzers.checkpoints.families import family_of, is_index, is_shard, is_weights, look_into
from jaynes_audit.analyzers.checkpoints.hub.location import SCHEME
from jaynes_audit.analyzers.checkpoints.locations import could_be_on_hub, is_on_hub
from jaynes_audit.analyzers.checkpoints.opening import OTHER_WEIGHTS
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import quoted, quoted_path
from jaynes_audit.analyzers.checkpoints.reading import is_absent
from jaynes_audit.analyzers.errors import CouldNotRead, NothingToAudit, UsageError


def expand(targets: Iterable[str]) -> list[str]:
    """The locations of the checkpoints that the targets mean, each once: in the targets' order, a pattern's sorted.

    A target is a file, a folder, a pattern (`runs/*/`, `export/*.safetensors`, `**` for any depth), or a model on the
    Hub; a path that exists is never taken for either. Of what a pattern matches, folders and files of weights count.
    Shards and their index, by whichever name, become the one checkpoint they belong to.

    Raises:
        UsageError: when a target is empty, which would otherwise mean the current folder.
        CouldNotRead: when a path does not exist, or the machine does not let it be read.
        NothingToAudit: when a pattern matches no folder and no file of weights.
    """
    return list(dict.fromkeys(location for target in targets for location in _locations(target)))


def _locations(target: str) -> list[str]:
    if is_on_hub(target):
        return [target]
    return [str(_whole(path)) for path in _matches(target)]


def _matches(target: str) -> list[Path]:
    if not target:
        raise UsageError("a target is empty, as when a variable was not set; name a file or a folder")
    path = Path(target)
    if not is_absent(path) or path.is_symlink():  # a link to nothing: opening it tells more
        return [path]
    if not glob.has_magic(target):
        raise CouldNotRead(_missing(target))
    matches = sorted(Path(match) for match in glob.glob(target, recursive=True))  # noqa: PTH207  # "/a/*" is absolute
    weights = [match for match in matches if match.is_dir() or is_weights(match.name) or match.suffix in OTHER_WEIGHTS]
    if weights:
        return weights
    if matches:
        raise NothingToAudit(
            f"the pattern {quoted_path(target)} matches {len(matches):,} files, and none is a file of weights"
        )
    raise NothingToAudit(f"the pattern {quoted_path(target)} matches nothing; quote it, and look at where it starts")


def _whole(path: Path) -> Place:
    return family_of(path).location if is_shard(path.name) or is_index(path.name) else path


def _missing(target: str) -> str:
    """The sentence for a path that does not exist, with the likeliest one that does."""
    path = Path(target)
    if path.parent.is_dir():
        folder = look_into(path.parent)
        close = get_close_matches(path.name, [*folder.files, *folder.subfolders], n=1)
        if close:
            return f"{quoted_path(target)} does not exist; did you mean {quoted(str(path.with_name(close[0])))}?"
    hint = f", or name a model on the Hub as '{SCHEME}{target}'" if could_be_on_hub(target) else ""
    return f"{quoted_path(target)} does not exist; correct the path{hint}"
