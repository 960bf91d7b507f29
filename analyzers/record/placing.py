"""Where a finding points to: a line that a reviewer can open, the bytes that it is about, and a name that lasts."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from msgspec.structs import replace

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.checkpoints.hub.location import SCHEME
from jaynes_audit.analyzers.checkpoints.index import lines_of_tensors, parse_index
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.errors import JaynesError
from jaynes_audit.analyzers.layer_audit import LayerAudit
from jaynes_audit.analyzers.model_name import lasting_subject
from jaynes_audit.analyzers.record.report import BytesRecord, FindingRecord, LineRecord
from jaynes_audit.analyzers.record.texts import text

FINGERPRINT_DIGITS = 16  # hexadecimal; 64 bits tell any number of findings apart that a project can have
LARGEST_SEARCHED_INDEX = 32_000_000  # bytes; DeepSeek-V3's 91,991 tensors take 9 MB
NO_LINES: Mapping[str, int] = {}


def placed(
    records: Iterable[FindingRecord],
    audit: Audit,
    *,
    model: str,
    baseline_place: str = "",
    lines: Mapping[str, int] = NO_LINES,
) -> list[FindingRecord]:
    """Give findings their fingerprint, their line and their bytes.

    `model` is the model's name, the same on every machine. `lines` has the line of each layer in the baseline, which is
    a path or REVISION:PATH in git. What stands in no baseline has its line in the index of shards beside the weights;
    an index is read once, and none that cannot be read stops anything.
    """
    places = _Places(audit, _path_of(baseline_place), lines)
    return [
        replace(
            record,
            fingerprint=fingerprint(record.rule, model, lasting_subject(record.subject, text(audit.target))),
            line=places.line(record.subject),
            stored=places.stored(record.subject),
        )
        for record in records
    ]


def placed_in_file(records: Iterable[FindingRecord], file: str) -> list[FindingRecord]:
    """Give findings about the run itself their fingerprint and their file, that of the configuration."""
    return [
        replace(
            record,
            fingerprint=fingerprint(record.rule, "", record.subject),
            line=LineRecord(file=text(file), line=1) if file else None,
        )
        for record in records
    ]


def fingerprint(rule: str, model: str, subject: str) -> str:
    """Tell a finding from all others of a project, whatever was measured and wherever it stands."""
    return sha256(f"{rule}\0{model}\0{subject}".encode(errors="backslashreplace")).hexdigest()[:FINGERPRINT_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """The index of shards in a folder: its tensors, each with its shard, and their lines."""

    file: str
    weight_map: Mapping[str, str]
    lines: Mapping[str, int]


class _Places:
    """Where the things are that the rules speak of. An index is read when it is first needed."""

    def __init__(self, audit: Audit, baseline: str, lines: Mapping[str, int]) -> None:
        self._baseline = baseline
        self._baseline_lines = {text(name): line for name, line in lines.items()}
        self._layers = {text(layer.name): layer for layer in audit.layers}
        self._files = frozenset(map(text, (*audit.files, *audit.pickles, *(each.file for each in audit.defects))))
        self._left_out = frozenset(text(each.name) for each in audit.left_out)
        self._folders = tuple(dict.fromkeys(Path(file).parent for file in audit.files if _is_local(file)))
        self._indexes: dict[Path, tuple[_Index, ...]] = {}

    def line(self, subject: str) -> LineRecord | None:
        if subject in self._baseline_lines:
            return LineRecord(file=text(self._baseline), line=self._baseline_lines[subject])
        if self._baseline and _path_of(subject) == self._baseline:
            return LineRecord(file=text(self._baseline), line=1)
        layer = self._layers.get(subject)
        found = self._of_layer(layer) if layer else self._of_tensor(subject) if subject in self._left_out else None
        return LineRecord(file=text(found[0].file), line=found[1]) if found else None

    def stored(self, subject: str) -> BytesRecord | None:
        layer = self._layers.get(subject)
        if layer:
            # What a quantiser makes of several stored tensors has no one length.
            length = None if layer.codes else layer.stored_bytes
            return BytesRecord(file=text(layer.file), offset=layer.start, length=length)
        return BytesRecord(file=subject, offset=None, length=None) if subject in self._files else None

    def _of_layer(self, layer: LayerAudit) -> tuple[_Index, int] | None:
        if not _is_local(layer.file):
            return None
        path = Path(layer.file)
        names = (layer.tensor, layer.tensor.partition("/")[2])  # in a pipeline it has its component before it
        for index in self._in_folder(path.parent):
            for name in names:
                if index.weight_map.get(name) == path.name:
                    return index, index.lines[name]
        return None

    def _of_tensor(self, subject: str) -> tuple[_Index, int] | None:
        """The line of a tensor of which no file is known."""
        for folder in self._folders:
            inside = subject.removeprefix(f"{folder.name}/")
            for index in self._in_folder(folder):
                line = index.lines.get(subject) or index.lines.get(inside)
                if line:
                    return index, line
        return None

    def _in_folder(self, folder: Path) -> tuple[_Index, ...]:
        if folder not in self._indexes:
            self._indexes[folder] = tuple(_indexes_in(folder))
        return self._indexes[folder]


def _indexes_in(folder: Path) -> Iterator[_Index]:
    try:
        files = sorted(folder.glob("*.index*.json"))
    except (OSError, ValueError):  # a sketch archive may name any folder
        return
    for file in files:
        try:
            with opened(file) as (stream, size):
                raw = stream.read(LARGEST_SEARCHED_INDEX) if size <= LARGEST_SEARCHED_INDEX else b""
            weight_map = parse_index(raw).weight_map
        except JaynesError:  # the reader of the checkpoint has told what is wrong with it
            continue
        lines = lines_of_tensors(raw.decode())
        yield _Index(
            file=str(file),
            weight_map={name: shard for name, shard in weight_map.items() if name in lines},
            lines={name: line for name, line in lines.items() if name in weight_map},
        )


def _is_local(file: str) -> bool:
    return not file.startswith(SCHEME)


def _path_of(place: str) -> str:
    """The path in a place, which may be REVISION:PATH in git."""
    return place.partition(":")[2] or place
