"""The index of a checkpoint in several shards: `*.safetensors.index.json`, and what it promises about them.

Its form is {"metadata": {"total_size": bytes}, "weight_map": {tensor: file name}}, as transformers' and diffusers'
`save_pretrained` write it. File names in it are attacker-chosen and must stay inside the folder.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.checkpoints.strict_json import Repeated, kind_of, parse_strictly
from jaynes_audit.analyzers.checkpoints.tensor import Defect, WeightFile
from jaynes_audit.analyzers.errors import RefusedFile

LARGEST_INDEX = 100_000_000  # bytes; as for a header. DeepSeek-V3's 91,991 tensors take 9 MB
LONGEST_FILE_NAME = 255  # bytes; NAME_MAX of every common file system
WRITE_AGAIN = "save the checkpoint again with its library"
COUNTED = re.compile(r"-of-(\d+)\.")
_STRING = re.compile(r'("(?:[^"\\]++|\\.)*+")(\s*:)?')  # in JSON; of a key with its colon


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """Which tensor stands in which shard. Every shard's name is a plain file name."""

    weight_map: Mapping[str, str]
    metadata: Mapping[str, object]

    @property
    def shards(self) -> tuple[str, ...]:
        """The names of the shards, sorted."""
        return tuple(sorted(set(self.weight_map.values())))


def read_index(path: Place) -> Index:
    """The index at `path`.

    Raises:
        RefusedFile: JN003, as `parse_index` does, or when the file is larger than any honest index.
        CouldNotRead: when the machine does not let it be read.
    """
    with opened(path) as (stream, size):
        if size > LARGEST_INDEX:
            raise _bad(f"has {size:,} bytes, above the limit of {LARGEST_INDEX:,}", "index-too-large")
        return parse_index(stream.read(size))


def parse_index(raw: bytes) -> Index:
    """The index that these bytes spell.

    Raises:
        RefusedFile: JN003 when it is not the JSON that an index is, or when a shard's name leads out of the folder.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _bad(f"is not UTF-8 at byte {error.start:,}", "index-not-utf8") from None
    value, rest = parse_strictly(text.lstrip(), what="index")
    if rest.strip():
        raise _bad(f"goes on after its end with {quoted(rest.lstrip(), longest=20)}", "index-second-value")
    top = _checked_object(value, "the index")
    if "weight_map" not in top:
        raise _bad("has no weight_map, so it does not say which shard holds which tensor", "weight-map-missing")
    weight_map: dict[str, str] = {}
    for name, shard in _checked_object(top["weight_map"], "its weight_map").items():
        if not isinstance(shard, str):
            raise _bad(f"maps tensor {quoted(name)} to {kind_of(shard)}, not to a file name", "shard-not-a-name")
        weight_map[name] = shard
    for shard in set(weight_map.values()):
        _refuse_unsafe(shard)
    return Index(weight_map=weight_map, metadata=_checked_object(top.get("metadata") or {}, "its metadata"))


def lines_of_tensors(text: str) -> dict[str, int]:
    """The line, counted from 1, on which each tensor stands in the text of an index that `parse_index` takes.

    It takes time in proportion to the text, whatever the text is; of a text that is no index nothing sensible is told.
    """
    lines: dict[str, int] = {}
    line, counted_to, in_weight_map = 1, 0, False
    for found in _STRING.finditer(text):
        key = _string(found[1]) if found[2] else None
        if key is None:
            continue
        if in_weight_map:
            line += text.count("\n", counted_to, found.start())
            counted_to = found.start()
            lines.setdefault(key, line)
        in_weight_map = in_weight_map or key == "weight_map"
    return lines


def _string(literal: str) -> str | None:
    try:
        value: str = json.loads(literal, strict=False)
    except ValueError:  # an escape that JSON does not have
        return None
    return value


def _bad(fault: str, case: str, remedy: str = WRITE_AGAIN) -> RefusedFile:
    return RefusedFile(f"the index {fault}; {remedy}", rule="JN003", case=case)


def _checked_object(value: object, what: str) -> dict[str, object]:
    match value:
        case dict():
            return value
        case Repeated(key=key):
            fault = f"has {quoted(key)} twice in {what}, and readers differ in which one they keep"
            raise _bad(fault, "index-duplicate-key")
        case _:
            raise _bad(f"is not as it should be: {what} is {kind_of(value)} and must be an object", "index-not-object")


def _refuse_unsafe(shard: str) -> None:
    """Refuse a shard's name that is anything but the plain name of a file in the index's own folder."""
    for pattern, fault in _UNSAFE:
        if pattern.search(shard):
            raise _bad(
                f"names {quoted(shard)} as a shard, which {fault}; a shard's name must be a plain file name",
                "unsafe-shard-name",
                remedy="do not load this checkpoint",
            )
    if len(shard.encode("utf-8")) > LONGEST_FILE_NAME:
        raise _bad(f"names {quoted(shard)} as a shard, longer than a file name can be", "shard-name-too-long")


_UNSAFE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\0"), "holds a NUL byte"),
    (re.compile("[\ud800-\udfff]"), "holds half of a surrogate pair"),
    (re.compile(r"://"), "is a URL"),
    (re.compile(r"^(?:[/\\]|[A-Za-z]:)"), "is an absolute path"),
    (re.compile(r"(?:^|[/\\])\.\.(?:$|[/\\])"), "leads out of the folder"),
    (re.compile(r"/"), "leads into another folder"),
    (re.compile(r"\\"), "leads into another folder on Windows"),
    (re.compile(r"^\.?$"), "names no file"),
)


def index_defects(
    index: Index, *, index_file: Place, read: Mapping[str, WeightFile], absent: Sequence[str]
) -> Iterator[Defect]:
    """Where the index and its shards disagree. One defect for each kind and file, however many tensors it touches.

    `read` are the shards that could be read, by name, and `absent` the ones that are not there. A shard that is in
    neither was refused for its own reason, and nothing is said about its tensors.
    """
    if absent:
        yield missing_shards(absent, missing=len(absent), expected=len(index.shards), file=index_file)
    yield from _wrong_count(index, index_file)
    promised: defaultdict[str, list[str]] = defaultdict(list)
    for name, shard in index.weight_map.items():
        promised[shard].append(name)
    for shard, weights in read.items():
        names = weights.names
        lacking = [name for name in promised[shard] if name not in names]
        if lacking:
            yield _mismatch(weights.file, "tensor-not-in-shard", f"the index promises {_count(lacking)} that it lacks")
        unlisted = [tensor.name for tensor in weights.tensors if tensor.name not in index.weight_map]
        if unlisted:
            yield _mismatch(weights.file, "tensor-not-in-index", f"it holds {_count(unlisted)} that no index lists")
    yield from tensors_in_two_shards(read)


def missing_shards(absent: Sequence[str], *, missing: int, expected: int, file: Place) -> Defect:
    """The defect of a checkpoint of `expected` files of which some are not there. `absent` may name the first few."""
    names = listed(absent, total=missing)
    return Defect(
        rule="JN005",
        case="missing-shard",
        file=str(file),
        sentence=f"{missing:,} of {expected:,} files of weights are missing: {names}; fetch them again",
    )


def tensors_in_two_shards(read: Mapping[str, WeightFile]) -> Iterator[Defect]:
    """For each shard, the tensors that an earlier shard holds under the same name."""
    seen: dict[str, str] = {}
    for shard, weights in read.items():
        twice = [tensor.name for tensor in weights.tensors if tensor.name in seen]
        if twice:
            others = listed(sorted({seen[name] for name in twice}))
            yield _mismatch(weights.file, "tensor-in-two-shards", f"it holds {_count(twice)} that {others} holds too")
        seen.update((tensor.name, shard) for tensor in weights.tensors if tensor.name not in seen)


def total_size_remarks(index: Index, stored_bytes: int) -> tuple[str, ...]:
    """A remark when the index states another total size than the shards have. Often wrong in honest checkpoints."""
    stated = index.metadata.get("total_size", stored_bytes)
    if type(stated) is not int:
        return (f"the index states {kind_of(stated)} for total_size, which must be a number of bytes",)
    if stated != stored_bytes:
        return (f"the index states a total_size of {stated:,} bytes, and its tensors have {stored_bytes:,}",)
    return ()


def _wrong_count(index: Index, index_file: Place) -> Iterator[Defect]:
    counts = Counter(int(match[1]) for match in map(COUNTED.search, index.shards) if match)
    for stated, named in sorted(counts.items()):
        if stated != named:
            fault = f"it names {named:,} of the {stated:,} shards that their own names speak of"
            yield _mismatch(index_file, "shard-count", fault)


def _mismatch(file: Place, case: str, fault: str) -> Defect:
    return Defect(rule="JN006", case=case, file=str(file), sentence=f"{fault}; {WRITE_AGAIN}")


def _count(names: list[str]) -> str:
    what = "the tensor" if len(names) == 1 else f"{len(names):,} tensors,"
    return f"{what} {listed(names, most=3)}"
