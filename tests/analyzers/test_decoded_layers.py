"""Weights that are made from stored codes, from the tensor to the report."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.audit import LeftOutReason, audit_checkpoint, headers_of
from jaynes_audit.analyzers.checkpoints.decoding import Decoded, Read, Scheme
from jaynes_audit.analyzers.checkpoints.places import Span
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Tensor
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch import extent as extent_module
from jaynes_audit.analyzers.verdict import findings_of

NAME = "model.layers.0.mlp.up_proj.weight"
ROWS, COLUMNS = 96, 160
STEP = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Nibbles:
    """A quantiser made up for these tests: one byte a code, and the weight is (code - 8) / 4."""

    file: Path
    label: str = "N4"

    @property
    def scheme(self) -> Scheme:
        return Scheme(label=self.label, description="nibbles, for a test", code_bits=4)

    @property
    def parts(self) -> tuple[str, ...]:
        return ("codes", "scale")

    def needs(self, first: int, stop: int) -> tuple[Span, ...]:
        return (Span(self.file, first, stop),)

    def decode(self, read: Read, first: int, stop: int) -> Decoded:
        codes = np.frombuffer(read(self.file, first, stop), np.uint8)
        return Decoded(((codes.astype(np.float32) - 8) * STEP).astype(np.float32), codes)


@pytest.fixture
def codes() -> np.ndarray:
    return np.clip(np.random.default_rng(0).normal(8, 2, (ROWS, COLUMNS)).round(), 1, 15).astype(np.uint8)


@pytest.fixture
def model(codes: np.ndarray, tmp_path: Path) -> Checkpoint:
    path = tmp_path / "codes.bin"
    path.write_bytes(codes.tobytes())
    tensor = Tensor(
        name=NAME,
        dtype=Dtype.F32,
        shape=(ROWS, COLUMNS),
        file=path,
        start=0,
        end=codes.size,
        decoder=Nibbles(file=path),
    )
    return Checkpoint(location=str(tmp_path), tensors=(tensor,), files=(path,))


@pytest.mark.parametrize("io", list(Io))
def test_the_bytes_of_a_decoded_tensor_are_those_of_its_numbers(model: Checkpoint, codes: np.ndarray, io: Io) -> None:
    numbers = ((codes.astype(np.float32) - 8) * STEP).reshape(-1)
    with Sources(io) as sources:
        source = sources.of(model.tensors[0])
        assert bytes(source.read(0, 4 * codes.size)) == numbers.tobytes()
        assert bytes(source.read(40, 44)) == numbers[10:11].tobytes()


def test_a_decoded_layer_is_measured_as_its_numbers_and_its_codes_are_counted(
    model: Checkpoint, codes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extent_module, "CHUNK_BYTES", 4096)  # in many chunks, each code once
    (layer,) = audit_checkpoint(model)
    assert (layer.dtype, layer.counts.weights, layer.counts.zero) == ("N4", codes.size, np.count_nonzero(codes == 8))
    _, tallies = np.unique(codes, return_counts=True)
    shares = tallies / codes.size
    assert (layer.codes.available, layer.codes.used) == (16, 15)
    assert layer.codes.entropy == pytest.approx(-(shares * np.log2(shares)).sum())
    assert layer.codes.commonest_share == shares.max()


def test_coverage_counts_what_is_stored(model: Checkpoint, codes: np.ndarray) -> None:
    covered = audit_checkpoint(model).coverage
    assert (covered.tensors, covered.tensors_total) == (2, 2)
    assert (covered.bytes, covered.bytes_total) == (codes.size, codes.size)


def test_headers_tell_how_much_of_what_there_is(model: Checkpoint, codes: np.ndarray) -> None:
    audit = headers_of(model)
    (held,) = audit.holdings
    assert (held.role, held.dtype, held.matrices, held.weights, held.bytes) == (
        *("mlp.up", "N4", 1, codes.size),
        codes.size,
    )
    assert [(each.reason, each.dtype) for each in audit.left_out] == [(LeftOutReason.HEADERS_ONLY, "N4")]
    assert (len(audit), audit.coverage.tensors, audit.coverage.bytes) == (0, 0, 0)


def test_what_cannot_be_turned_into_numbers_is_a_warning_and_no_layer(model: Checkpoint) -> None:
    (tensor,) = model.tensors
    twice = (tensor, Tensor(name="other", dtype=Dtype.U8, shape=(4,), file=tensor.file, start=0, end=4))
    why = "codes only: nobody knows this quantiser"
    audit = audit_checkpoint(
        Checkpoint(location="", tensors=twice, files=model.files, undecoded={NAME: why, "other": why})
    )
    assert len(audit) == 0
    assert {each.reason for each in audit.left_out} == {LeftOutReason.NOT_DECODED}
    (finding, incomplete) = findings_of(audit)
    assert incomplete.rule == "JN904"
    assert (finding.rule, finding.level, finding.subject) == ("JN008", "warning", NAME)
    assert finding.sentence == f"{why} (so are 'other')"
