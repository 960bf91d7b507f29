"""What a sketch archive says of a model beside its counts, as it stands in the file: docs/archive.md in types."""

import json
import math
import zlib
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from jaynes_audit.analyzers.dtypes import Dtype

FORMAT = "jaynes-sketches"
VERSION = 1
FORMAT_NAME = f"{FORMAT}/{VERSION}"

MODEL, HISTOGRAMS, RESIDUALS = "model", "histograms", "residuals"
"""The names of the tensors that an archive consists of."""

CONFIG_DEPTH = 3  # a setting that counts stands at the top, or in the settings of one network of several
MOST_RATIO = 64  # of a text to its packed length: a text that says more of one thing is stored as it is
FREE_BYTES = 1 << 20

Whole = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class SchemeContents(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A quantiser, as `checkpoints.decoding.Scheme` has it."""

    label: str
    description: str
    code_bits: Whole = 0
    keeps_law: bool = False


class TensorContents(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tensor of the model. `bytes` are the stored ones, from byte `start` of its file.

    `file` and `scheme` are places in the lists of those; the list of files goes on with that of the others.
    """

    name: str
    dtype: Dtype
    shape: list[Whole]
    file: Whole
    bytes: Whole
    start: Whole = 0
    parts: list[str] = []
    scheme: Whole | None = None


class LayerContents(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was measured of a layer and does not follow from its counts, and how many bytes those take.

    `scales` are row and column log-sd and the numbers of zero rows and columns, `errors` those of a jackknife, `codes`
    how many codes there are and occur, their entropy, and the share of the most frequent one, `probe` the projections
    of rows and of columns and their noise.
    """

    name: str
    size: Whole
    content: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]
    rms: float
    low_bits: Annotated[int, Meta(ge=0, le=0xFFFF)] = 0
    largest_bits: Annotated[int, Meta(ge=0, le=0x7F7FFFFF)] = 0
    max_finite: Whole = 0
    scales: tuple[float, float, Whole, Whole] | None = None
    errors: tuple[float, float, float, float] | None = None
    codes: tuple[Whole, Whole, float, float] | None = None
    probe: tuple[list[float], list[float], float] | None = None


class FailureContents(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A layer that could not be read, at all or once more. `rule` and `case` are empty where the machine said no."""

    name: str
    sentence: str
    rule: str = ""
    case: str = ""
    once_more: bool = False


class MomentsContents(Struct, frozen=True, kw_only=True, array_like=True):
    """Log-moments."""

    weights: Whole
    log_mean: float
    log_sigma: float
    skewness: float
    excess_kurtosis: float


class ResidualContents(Struct, frozen=True, kw_only=True):
    """A layer taken apart, and how many bytes the counts of its residual take."""

    row_log_variance: float
    column_log_variance: float
    row_residual: MomentsContents
    residual: MomentsContents
    used_low_bits: Annotated[int, Meta(ge=0, le=16)]
    size: Whole


class AnatomyContents(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A layer that was read once more: taken apart, or the reason why it cannot be."""

    name: str
    residual: ResidualContents | None = None
    reason: str = ""


class DefectContents(Struct, frozen=True, kw_only=True):
    """A part of the checkpoint that was refused."""

    rule: str
    case: str
    file: str
    sentence: str


class ModelContents(Struct, frozen=True, kw_only=True):
    """A model, layer by layer in the order in which they were read. The fields are those of a `Checkpoint`.

    `other_files` hold tensors, and are not named among the files of the checkpoint.
    """

    target: str
    commit: str
    files: list[str]
    other_files: list[str]
    schemes: list[SchemeContents]
    tensors: list[TensorContents]
    configs: dict[str, dict[str, object]]
    aliases: dict[str, str]
    missing: list[str]
    undecoded: dict[str, str]
    pickles: list[str]
    defects: list[DefectContents]
    remarks: list[str]
    layers: list[LayerContents]
    failures: list[FailureContents]
    anatomies: list[AnatomyContents]


def packed_contents(model: ModelContents) -> bytes:
    """Write as JSON in ASCII, deflated."""
    text = json.dumps(msgspec.to_builtins(model), separators=(",", ":"), allow_nan=False).encode()
    packed = zlib.compress(text, 9)
    return packed if len(text) <= _most_text(len(packed)) else zlib.compress(text, 0)


def contents_from(packed: bytes) -> ModelContents:
    """Read what was written. Raises ValueError, with a reason, when that is not what these bytes are."""
    inflate = zlib.decompressobj()
    most = _most_text(len(packed))
    try:
        text = inflate.decompress(packed, most + 1)
    except zlib.error as error:
        raise ValueError("it does not unpack") from error
    if len(text) > most or not inflate.eof or inflate.unused_data:
        raise ValueError("it unpacks to more or less than it may")
    try:
        return msgspec.convert(json.loads(text, parse_constant=_refuse_constant), ModelContents)
    except RecursionError as error:
        raise ValueError("it is nested without end") from error


def plain_settings(settings: Mapping[str, object], depth: int = CONFIG_DEPTH) -> dict[str, object]:
    """Settings as JSON can hold them: what is nested deeply, or is no value that decides anything, is null."""
    return {key: _plain(value, depth) for key, value in settings.items()}


def _plain(value: object, depth: int) -> object:
    match value:
        case bool() | int() | str() | None:
            return value
        case float() if math.isfinite(value):
            return value
        case Mapping() if depth > 1:
            return plain_settings({str(key): item for key, item in value.items()}, depth - 1)
        case list() | tuple() if depth > 1:
            return [_plain(item, depth - 1) for item in value]
    return None


def _most_text(packed_bytes: int) -> int:
    return MOST_RATIO * packed_bytes + FREE_BYTES


def _refuse_constant(name: str) -> float:
    message = f"it has the number {name}"
    raise ValueError(message)
