"""Audit -> file: what a sketch archive keeps of a model, packed while it is read."""

import json
import os
import struct
from importlib.metadata import version
from pathlib import Path

from jaynes_audit.analyzers.anatomy import Anatomy
from jaynes_audit.analyzers.archive.archive import is_archive
from jaynes_audit.analyzers.archive.contents import (
    FORMAT_NAME,
    HISTOGRAMS,
    MODEL,
    RESIDUALS,
    AnatomyContents,
    DefectContents,
    FailureContents,
    LayerContents,
    ModelContents,
    MomentsContents,
    ResidualContents,
    SchemeContents,
    TensorContents,
    packed_contents,
    plain_settings,
)
from jaynes_audit.analyzers.archive.packing import packed_histogram, packed_magnitudes, used_low_bits_of
from jaynes_audit.analyzers.checkpoints import Checkpoint
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, LogMoments, NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import RefusedFile, UsageError
from jaynes_audit.analyzers.layer_audit import MeasuredLayer, Scales
from jaynes_audit.analyzers.pieces import Dissected, Failed
from jaynes_audit.analyzers.sketch.histogram import Histogram

# Of a layer with so many weights or more the archive takes at most so small a part of their bytes in bf16.
LARGE_LAYER = 1_000_000
MOST_SHARE = 1 / 500
BF16_BYTES = 2
FACTS_BYTES = 1_300  # what a layer takes beside its counts, in a file of its own; measured
NO_ROOM = "its anatomy was not kept: it would make the sketch archive larger than 1/500 of the weights in bf16"

HEADER_ALIGNMENT = 8  # bytes; the safetensors library pads its headers to as many


class Keeper:
    """What an audit tells, packed as it comes: two or three kilobytes a layer, and as much again of what it dissected.

    `measured` and `outcome` are for `audit_checkpoint`; `archive` then gives the file. Equal audits give equal bytes.
    """

    def __init__(self) -> None:
        self._layers: list[LayerContents] = []
        self._histograms: list[bytes] = []
        self._sizes: dict[str, int] = {}
        self._failures: dict[str, FailureContents] = {}
        self._anatomies: list[AnatomyContents] = []
        self._residuals: list[bytes] = []

    def measured(self, layer: MeasuredLayer, histogram: Histogram) -> None:
        """Keep a layer that was read."""
        packed = packed_histogram(histogram)
        self._histograms.append(packed)
        self._sizes[layer.name] = len(packed)
        self._layers.append(_layer(layer, histogram, len(packed)))

    def outcome(self, outcome: Dissected | Failed) -> None:
        """Keep a layer that was taken apart, or that could not be read."""
        name = outcome.layer.name
        if isinstance(outcome, Failed):
            error = outcome.error
            rule, case = (error.rule, error.case) if isinstance(error, RefusedFile) else ("", "")
            self._failures[name] = FailureContents(
                name=name, sentence=str(error), rule=rule, case=case, once_more=outcome.once_more
            )
        elif isinstance(outcome.anatomy, NotFitted):
            self._anatomies.append(AnatomyContents(name=name, reason=outcome.anatomy.reason))
        else:
            packed = packed_magnitudes(outcome.anatomy.residual_magnitudes)
            if self._has_room(outcome.layer, len(packed)):
                self._residuals.append(packed)
                self._anatomies.append(AnatomyContents(name=name, residual=_residual(outcome.anatomy, len(packed))))
            else:
                self._anatomies.append(AnatomyContents(name=name, reason=NO_ROOM))

    def _has_room(self, layer: Layer, residual_bytes: int) -> bool:
        """Whether the counts of what is left of a layer fit in the share that a large one may take."""
        weights = layer.extent.weights
        size = self._sizes[layer.name] + residual_bytes + FACTS_BYTES
        return weights < LARGE_LAYER or size <= MOST_SHARE * BF16_BYTES * weights

    def archive(self, checkpoint: Checkpoint) -> bytes:
        """Give the sketch archive of the checkpoint whose audit was heard."""
        model = _model(checkpoint, self._layers, list(self._failures.values()), self._anatomies)
        parts = {MODEL: packed_contents(model), HISTOGRAMS: b"".join(self._histograms)}
        if self._residuals:
            parts[RESIDUALS] = b"".join(self._residuals)
        return _safetensors(parts, {"format": FORMAT_NAME, "jaynes_version": version("jaynes-audit")})


def refuse_place(path: Path, target: str) -> None:
    """Find out before hours of reading that the sketches of `target` cannot or must not be written to `path`.

    Raises UsageError: a file that is no sketch archive is never replaced, be it the weights themselves.
    """
    if path.is_dir():
        raise UsageError(f"the sketches cannot be saved to {quoted_path(path)}, which is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {quoted_path(path.parent)} to save the sketches to; make it first")
    if (path.exists() or path.is_symlink()) and not is_archive(path):
        raise UsageError(f"{quoted_path(path)} exists and is no sketch archive; give the sketches another name")
    if path.resolve() == Path(target).resolve():
        raise UsageError(f"{quoted_path(path)} is the target itself; give the sketches another name")


def save(path: Path, content: bytes) -> None:
    """Write a file as a whole or not at all. Raises OSError."""
    target = path.resolve()  # what a symbolic link leads to, not the link
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        draft.write_bytes(content)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)


def _safetensors(parts: dict[str, bytes], metadata: dict[str, str]) -> bytes:
    header: dict[str, object] = {"__metadata__": metadata}
    start = 0
    for name, content in parts.items():
        header[name] = {"dtype": Dtype.U8, "shape": [len(content)], "data_offsets": [start, start + len(content)]}
        start += len(content)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    return b"".join([struct.pack("<Q", len(text)), text, *parts.values()])


def _layer(layer: MeasuredLayer, histogram: Histogram, size: int) -> LayerContents:
    scales, errors, codes, probe = layer.scales, layer.errors, layer.codes, layer.probe
    wide = histogram.dtype in {Dtype.F32, Dtype.F64}
    return LayerContents(
        name=layer.name,
        size=size,
        content=layer.content,
        rms=layer.rms,
        low_bits=histogram.low_bits,
        # Of the other formats both follow from the counts.
        largest_bits=int.from_bytes(struct.pack(">f", layer.largest)) if wide else 0,
        max_finite=layer.counts.max_finite if wide else 0,
        scales=(scales.row_log_sd, scales.column_log_sd, scales.zero_rows, scales.zero_columns)
        if isinstance(scales, Scales)
        else None,
        # Errors of independent weights follow from the counts too.
        errors=(errors.log_mean, errors.log_sigma, errors.skewness, errors.excess_kurtosis)
        if isinstance(errors, LogMomentErrors) and errors.blocks
        else None,
        codes=(codes.available, codes.used, codes.entropy, codes.commonest_share) if codes else None,
        probe=None if isinstance(probe, NotFitted) else (list(probe.rows), list(probe.columns), probe.noise),
    )


def _residual(anatomy: Anatomy, size: int) -> ResidualContents:
    return ResidualContents(
        row_log_variance=anatomy.row_log_variance,
        column_log_variance=anatomy.column_log_variance,
        row_residual=_moments(anatomy.row_residual),
        residual=_moments(anatomy.residual),
        used_low_bits=used_low_bits_of(anatomy.residual_magnitudes.grid),
        size=size,
    )


def _moments(moments: LogMoments) -> MomentsContents:
    return MomentsContents(
        weights=moments.weights,
        log_mean=moments.log_mean,
        log_sigma=moments.log_sigma,
        skewness=moments.skewness,
        excess_kurtosis=moments.excess_kurtosis,
    )


def _model(
    checkpoint: Checkpoint,
    layers: list[LayerContents],
    failures: list[FailureContents],
    anatomies: list[AnatomyContents],
) -> ModelContents:
    files = [str(file) for file in checkpoint.files]
    places = {file: place for place, file in enumerate(files)}
    other_files: list[str] = []
    schemes: dict[SchemeContents, int] = {}
    tensors = []
    for tensor in checkpoint.tensors:
        file = str(tensor.file)
        if file not in places:
            places[file] = len(files) + len(other_files)
            other_files.append(file)
        scheme = tensor.decoder.scheme if tensor.decoder else None
        kept = scheme and SchemeContents(
            label=scheme.label,
            description=scheme.description,
            code_bits=scheme.code_bits,
            keeps_law=scheme.keeps_law,
        )
        tensors.append(
            TensorContents(
                name=tensor.name,
                dtype=tensor.dtype,
                shape=list(tensor.shape),
                file=places[file],
                bytes=tensor.stored_bytes,
                start=tensor.start,
                parts=list(tensor.decoder.parts) if tensor.decoder else [],
                scheme=schemes.setdefault(kept, len(schemes)) if kept else None,
            )
        )
    return ModelContents(
        target=checkpoint.location,
        commit=checkpoint.commit,
        files=files,
        other_files=other_files,
        schemes=list(schemes),
        tensors=tensors,
        configs={prefix: plain_settings(config) for prefix, config in checkpoint.configs.items()},
        aliases=dict(checkpoint.aliases),
        missing=list(checkpoint.missing),
        undecoded=dict(checkpoint.undecoded),
        pickles=list(checkpoint.pickles),
        defects=[
            DefectContents(rule=each.rule, case=each.case, file=each.file, sentence=each.sentence)
            for each in checkpoint.defects
        ],
        remarks=list(checkpoint.remarks),
        layers=layers,
        failures=failures,
        anatomies=anatomies,
    )
