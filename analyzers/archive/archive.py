"""File -> Archive: what an audit kept of a model, checked, in place of its weights."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO, TypeVar

from jaynes_audit.analyzers.anatomy import Anatomy
from jaynes_audit.analyzers.archive.contents import (
    FORMAT,
    FORMAT_NAME,
    HISTOGRAMS,
    MODEL,
    RESIDUALS,
    AnatomyContents,
    FailureContents,
    LayerContents,
    ModelContents,
    MomentsContents,
    ResidualContents,
    TensorContents,
    contents_from,
)
from jaynes_audit.analyzers.archive.elsewhere import DecoderElsewhere, Elsewhere
from jaynes_audit.analyzers.archive.packing import histogram_from, magnitudes_from, residual_grid
from jaynes_audit.analyzers.audit import EVERYTHING, plan_of
from jaynes_audit.analyzers.checkpoints import Checkpoint, Defect, HubAccess, Tensor, open_checkpoint
from jaynes_audit.analyzers.checkpoints.decoding import Scheme
from jaynes_audit.analyzers.checkpoints.locations import is_on_hub
from jaynes_audit.analyzers.checkpoints.quoted import quoted, quoted_path
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.checkpoints.safetensors_header import header_length, parse_header
from jaynes_audit.analyzers.checkpoints.safetensors_refusals import LARGEST_RANK, LENGTH_FIELD
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.distributions.moments import LogMoments, NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import CouldNotRead, JaynesError, RefusedFile, UsageError
from jaynes_audit.analyzers.sketch.histogram import Histogram
from jaynes_audit.analyzers.sketch.probe import PROJECTIONS

LARGEST_HEADER = 4096  # bytes; that of an archive names three tensors
MARK = f'"{FORMAT}/'.encode()
MOST_WEIGHTS = 1 << 45  # of a tensor: ten times the largest model. Counts of them do not run over
WRITE_AGAIN = "write it again with jaynes audit --save-sketches"

Kept = TypeVar("Kept", LayerContents, FailureContents, AnatomyContents)


@dataclass(frozen=True, eq=False, kw_only=True)
class Archive:
    """What an audit kept of a model. Its layers stand in the order in which they were read.

    `checkpoint` is the model as far as its headers told, and none of its weights can be read. `failures` are the layers
    that could not be read, `anatomies` those that were taken apart or could not be, all by the layers' names.
    """

    path: Path
    checkpoint: Checkpoint
    layers: Mapping[str, LayerContents]
    failures: Mapping[str, FailureContents]
    failures_once_more: Mapping[str, FailureContents]
    anatomies: Mapping[str, AnatomyContents]
    packed_histograms: Mapping[str, memoryview]
    packed_residuals: Mapping[str, memoryview]

    def histogram(self, name: str) -> Histogram:
        """Give the exact counts of a layer's weights.

        Raises:
            KeyError: when the archive holds no layer of this name.
            RefusedFile: JN004 when its counts are damaged.
        """
        return self.histogram_of(self._known_layers[name])

    def histogram_of(self, layer: Layer) -> Histogram:
        """Give the counts of a layer of `checkpoint`. Raises as `histogram` does."""
        kept, weights = self.layers[layer.name], layer.extent.weights
        try:
            histogram = histogram_from(
                bytes(self.packed_histograms[layer.name]), dtype=layer.extent.dtype, low_bits=kept.low_bits
            )
            if (histogram.tallies > weights).any() or int(histogram.tallies.sum()) != weights:
                _refuse_value("counts of other weights than its shape has")
        except ValueError as error:
            raise self.refusal(f"its layer {quoted(layer.name)} has {error}") from error
        return histogram

    def anatomy(self, name: str) -> Anatomy | NotFitted:
        """Give the anatomy of a layer that was taken apart, with its residual magnitudes, or why it has none.

        Raises:
            KeyError: when it was not read for that.
            RefusedFile: JN004 when its counts are damaged.
        """
        kept = self.anatomies[name]
        if kept.residual is None:
            return NotFitted(kept.reason)
        try:
            return _anatomy(kept.residual, bytes(self.packed_residuals[name]))
        except ValueError as error:
            raise self.refusal(f"the anatomy of its layer {quoted(name)} has {error}") from error

    def refusal(self, fault: str) -> RefusedFile:
        """Give the refusal of a damaged layer."""
        return RefusedFile(
            f"the sketch archive {quoted_path(self.path)} is unsound: {fault}; {WRITE_AGAIN}",
            rule="JN004",
            case="sketches-unsound",
        )

    @cached_property
    def _known_layers(self) -> Mapping[str, Layer]:
        return {layer.name: layer for layer in plan_of(self.checkpoint, EVERYTHING).layers}


def is_archive(path: Path) -> bool:
    """Whether the file at `path` says that it is a sketch archive, of whatever version. It need not exist."""
    try:
        with opened(path) as (stream, _):
            length = int.from_bytes(stream.read(LENGTH_FIELD), "little")
            return length <= LARGEST_HEADER and MARK in stream.read(length)
    except (JaynesError, OSError):
        return False


def open_target(location: str, access: HubAccess | None = None) -> Checkpoint | Archive:
    """Open what a user named: a sketch archive, or a checkpoint as `open_checkpoint` does.

    An unsound archive is a checkpoint of nothing but that defect. Raises what `open_archive` and `open_checkpoint` do.
    """
    path = Path(location)
    if is_on_hub(location) or not is_archive(path):
        return open_checkpoint(location, access)
    if access and access.verify:
        raise UsageError(f"--verify asks the Hub for hashes, and {quoted(location)} is a sketch archive")
    try:
        return open_archive(path)
    except RefusedFile as refusal:
        defect = Defect(rule=refusal.rule, case=refusal.case, file=location, sentence=str(refusal))
        return Checkpoint(location=location, tensors=(), files=(path,), defects=(defect,))


def open_archive(path: Path) -> Archive:
    """Read a sketch archive. Its counts are unpacked when they are asked for.

    Memory: the file's own length, and sixty-four times that of the packed description of the model at the most.

    Raises:
        UsageError: when the archive is of another version of the format.
        RefusedFile: when it is unsound.
        CouldNotRead: when the machine does not let it be read.
    """
    with opened(path) as (stream, size):
        return read_archive(stream, path, size)


def read_archive(stream: BinaryIO, path: Path, size: int) -> Archive:
    """Read an opened sketch archive, see `open_archive`."""
    content = stream.read(size)
    if len(content) < size:
        raise CouldNotRead(f"{quoted_path(path)} became shorter while it was read; try again when its writer is done")
    length = header_length(content[: LENGTH_FIELD + LARGEST_HEADER], size)
    header = parse_header(content[LENGTH_FIELD : LENGTH_FIELD + length], file=path, file_size=size)
    _refuse_format(header.metadata.get("format", ""), path)
    stored = {tensor.name: tensor for tensor in header.tensors}
    if not {MODEL, HISTOGRAMS} <= set(stored) <= {MODEL, HISTOGRAMS, RESIDUALS}:
        raise _refused(path, f"it holds the tensors {', '.join(map(quoted, stored))}")
    if any(tensor.dtype is not Dtype.U8 for tensor in header.tensors):
        raise _refused(path, "its tensors are not of type U8")
    whole = memoryview(content)
    parts = {name: whole[tensor.start : tensor.end] for name, tensor in stored.items()}
    try:
        model = contents_from(bytes(parts[MODEL]))
        return _archive(path, model, parts[HISTOGRAMS], parts.get(RESIDUALS, memoryview(b"")))
    except ValueError as error:  # what json, msgspec and this module raise
        raise _refused(path, f"of its description of the model, {error}") from error


def _refuse_format(name: str, path: Path) -> None:
    if name == FORMAT_NAME:
        return
    if name.startswith(f"{FORMAT}/"):
        raise UsageError(
            f"{quoted_path(path)} is a sketch archive of the format {quoted(name)}, and this version reads "
            f"{FORMAT_NAME}; write it again, or install another version of jaynes-audit"
        )
    raise _refused(path, f"its format is {quoted(name)}")


def _refused(path: Path, fault: str) -> RefusedFile:
    return RefusedFile(
        f"{quoted_path(path)} is no sound sketch archive: {' '.join(fault.split())}; {WRITE_AGAIN}",
        rule="JN003",
        case="archive-unsound",
    )


def _refuse_value(fault: str) -> None:
    raise ValueError(fault)


# ---- the description of the model


def _archive(path: Path, model: ModelContents, histograms: memoryview, residuals: memoryview) -> Archive:
    for layer in model.layers:
        _refuse_layer(layer)
    return Archive(
        path=path,
        checkpoint=_checkpoint(model),
        layers=_by_name(model.layers),
        failures=_by_name(each for each in model.failures if not each.once_more),
        failures_once_more=_by_name(each for each in model.failures if each.once_more),
        anatomies=_by_name(model.anatomies),
        packed_histograms=_parts(histograms, [(each.name, each.size) for each in model.layers]),
        packed_residuals=_parts(
            residuals, [(each.name, each.residual.size) for each in model.anatomies if each.residual]
        ),
    )


def _by_name(kept: Iterable[Kept]) -> dict[str, Kept]:
    found: dict[str, Kept] = {}
    for each in kept:
        if each.name in found:
            _refuse_value(f"the layer {quoted(each.name)} stands there twice")
        found[each.name] = each
    return found


def _parts(packed: memoryview, sizes: Sequence[tuple[str, int]]) -> dict[str, memoryview]:
    ends = [*accumulate((size for _, size in sizes), initial=0)]
    if ends[-1] != len(packed):
        _refuse_value(f"the counts take {ends[-1]:,} bytes, and there are {len(packed):,}")
    return {name: packed[end - size : end] for (name, size), end in zip(sizes, ends[1:], strict=True)}


def _refuse_layer(layer: LayerContents) -> None:
    numbers = (layer.rms, *(layer.scales or ()), *(layer.errors or ()), *(layer.codes or ()))
    if not all(0 <= number < math.inf for number in numbers):
        _refuse_value(f"a number of the layer {quoted(layer.name)} is below 0 or not finite")
    if layer.probe and not _is_probe(*layer.probe):
        _refuse_value(f"the probe of the layer {quoted(layer.name)} is none")


def _is_probe(rows: Sequence[float], columns: Sequence[float], noise: float) -> bool:
    """Whether these are shares of a sum, PROJECTIONS to an axis."""
    whole = len(rows) == len(columns) == PROJECTIONS
    return whole and 0 <= noise <= 1 and all(-1 <= number <= 1 for number in (*rows, *columns))  # a NaN is neither


def _checkpoint(model: ModelContents) -> Checkpoint:
    files = tuple(Elsewhere(address) for address in (*model.files, *model.other_files))
    schemes = [
        Scheme(label=each.label, description=each.description, code_bits=each.code_bits, keeps_law=each.keeps_law)
        for each in model.schemes
    ]
    tensors = tuple(_tensors(model.tensors, files, schemes))
    if len({tensor.name for tensor in tensors}) < len(tensors):
        _refuse_value("two tensors have one name")
    return Checkpoint(
        location=model.target,
        tensors=tensors,
        files=files[: len(model.files)],
        configs=model.configs,
        aliases=model.aliases,
        missing=tuple(model.missing),
        undecoded=model.undecoded,
        defects=tuple(
            Defect(rule=each.rule, case=each.case, file=each.file, sentence=each.sentence) for each in model.defects
        ),
        remarks=tuple(model.remarks),
        commit=model.commit,
        pickles=tuple(model.pickles),
    )


def _tensors(kept: Iterable[TensorContents], files: Sequence[Elsewhere], schemes: Sequence[Scheme]) -> Iterator[Tensor]:
    for each in kept:
        if each.file >= len(files) or (each.scheme is not None and each.scheme >= len(schemes)):
            _refuse_value(f"the tensor {quoted(each.name)} has a file or a quantiser that is not there")
        if len(each.shape) > LARGEST_RANK or math.prod(filter(None, each.shape)) > MOST_WEIGHTS:
            _refuse_value(f"the tensor {quoted(each.name)} is larger than any")
        file = files[each.file]
        scheme = None if each.scheme is None else schemes[each.scheme]
        plain = Tensor(
            name=each.name,
            dtype=each.dtype,
            shape=tuple(each.shape),
            file=file,
            start=each.start,
            end=each.start + each.bytes,
        )
        if scheme or each.parts or plain.bytes != each.bytes:
            decoder = DecoderElsewhere(scheme=scheme, parts=tuple(each.parts), file=file, stored_bytes=each.bytes)
            yield replace(plain, decoder=decoder)
        else:
            yield plain


def _anatomy(kept: ResidualContents, packed: bytes) -> Anatomy:
    magnitudes = magnitudes_from(packed, residual_grid(kept.used_low_bits))
    numbers = (kept.row_log_variance, kept.column_log_variance, kept.row_residual.log_sigma, kept.residual.log_sigma)
    if not (all(0 <= number < math.inf for number in numbers) and kept.residual.log_sigma > 0):
        _refuse_value("a variance below 0 or not finite")
    return Anatomy(
        row_log_variance=kept.row_log_variance,
        column_log_variance=kept.column_log_variance,
        row_residual=_moments(kept.row_residual),
        residual=_moments(kept.residual),
        residual_magnitudes=magnitudes,
    )


def _moments(kept: MomentsContents) -> LogMoments:
    numbers = (kept.log_mean, kept.log_sigma, kept.skewness, kept.excess_kurtosis)
    if not all(map(math.isfinite, numbers)):
        _refuse_value("a moment that is not finite")
    log_mean, log_sigma, skewness, excess_kurtosis = numbers
    return LogMoments(
        weights=kept.weights,
        log_mean=log_mean,
        log_sigma=log_sigma,
        skewness=skewness,
        excess_kurtosis=excess_kurtosis,
    )
