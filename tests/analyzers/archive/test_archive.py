"""A sketch archive says what the weights that it was made from say."""

import re
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors import safe_open

from jaynes_audit.analyzers.archive.archive import Archive, is_archive, open_archive, open_target, read_archive
from jaynes_audit.analyzers.archive.audited import NOT_TAKEN_APART, audit_archive
from jaynes_audit.analyzers.archive.contents import FREE_BYTES
from jaynes_audit.analyzers.archive.elsewhere import Elsewhere
from jaynes_audit.analyzers.archive.saving import Keeper, refuse_place, save
from jaynes_audit.analyzers.audit import NOT_KEPT, Audit, LeftOutReason, Selection, audit_checkpoint, headers_of
from jaynes_audit.analyzers.checkpoints import Checkpoint, open_checkpoint
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.distributions.histogram_fit import Amplitude, HistogramBins
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile, UsageError
from jaynes_audit.analyzers.layer_audit import Criterion
from jaynes_audit.analyzers.record import record_of
from jaynes_audit.analyzers.verdict import findings_of
from tests.support.archive_fuzz import FUZZ, corpus, model_of, rebuilt, taken_apart, with_model
from tests.support.checkpoints import checkpoint, stored
from tests.support.fuzzing import survive

FIXTURES = Path(__file__).parents[3] / "fixtures"
DOCUMENT = Path(__file__).parents[3] / "docs" / "archive.md"
MODELS = (
    "babble/bf16",
    "babble/fp16",
    "babble/fp32",
    "digits",
    "quantised/gptq-4.safetensors",
    "quantised/deepseek.safetensors",
    "quantised/mxfp4-pack-quantized.safetensors",
    "pytorch/views.pt",
    "pytorch/names.pt",
    "formats/every_type.onnx",
)
BINS = HistogramBins(bins=40, range_end=None, amplitude=Amplitude.FREE)


def saved(model: Checkpoint, **options: Any) -> tuple[Audit, bytes]:
    keeper = Keeper()
    audit = audit_checkpoint(model, **options, on_measured=keeper.measured, on_outcome=keeper.outcome)
    return audit, keeper.archive(model)


def archive_of(content: bytes) -> Archive:
    return read_archive(BytesIO(content), Path("model.sketches.safetensors"), len(content))


def report(audit: Audit) -> bytes:
    return msgspec.json.encode(record_of(audit, findings_of(audit)))


@pytest.fixture(scope="module")
def babble() -> Checkpoint:
    return open_checkpoint(str(FIXTURES / "babble/bf16"))


@pytest.fixture(scope="module")
def sketches(babble: Checkpoint) -> bytes:
    return saved(babble)[1]


# ---- the same report


@pytest.mark.parametrize("model", MODELS)
def test_an_archive_gives_the_report_of_the_weights_and_itself_again(model: str) -> None:
    audit, content = saved(open_checkpoint(str(FIXTURES / model)))
    archive, keeper = archive_of(content), Keeper()
    again = audit_archive(archive, on_measured=keeper.measured, on_outcome=keeper.outcome)
    assert report(again) == report(audit)
    assert keeper.archive(archive.checkpoint) == content


@pytest.mark.parametrize(
    "options",
    [
        {"selection": Selection(layers=("*.mlp.*", "lm_head*"), exclude=("*.1.*",))},
        {"criterion": Criterion(min_fan_in=129, min_weights=40_000)},
        {"criterion": Criterion(min_fan_in=8, min_weights=100)},
        {"bins": BINS},
    ],
)
def test_other_options_work_on_an_archive_as_on_the_weights(
    babble: Checkpoint, sketches: bytes, options: dict[str, Any]
) -> None:
    assert report(audit_archive(archive_of(sketches), **options)) == report(audit_checkpoint(babble, **options))


def test_the_number_of_threads_does_not_change_an_archive(babble: Checkpoint, sketches: bytes) -> None:
    assert saved(babble, jobs=1)[1] == saved(babble, jobs=5)[1] == sketches


def test_an_archive_of_layers_taken_apart_gives_their_anatomies(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.lognormal(-3, 1.2, (96, 128)) * rng.choice([-1, 1], (96, 128))
    model = checkpoint(tmp_path, {"layers.0.mlp.up_proj.weight": stored(weights), "norm.weight": stored(np.ones(4))})
    audit, content = saved(model)
    assert "residuals" in taken_apart(content)[0], "it looks lognormal"
    assert report(audit_archive(archive_of(content))) == report(audit)
    audit, content = saved(model, dissect=True)
    assert report(audit_archive(archive_of(content), dissect=True)) == report(audit)


def test_what_no_archive_can_tell_has_a_reason(sketches: bytes) -> None:
    audit = audit_archive(archive_of(sketches), dissect=True)
    assert {layer.evidence.anatomy for layer in audit if layer.connected} == {NOT_TAKEN_APART}
    assert audit.coverage.complete


def test_a_layer_that_nobody_asked_for_is_not_there_later(babble: Checkpoint) -> None:
    only = Selection(layers=("*.0.*",))
    audit, content = saved(babble, selection=only)
    assert report(audit_archive(archive_of(content), selection=only)) == report(audit)
    all_of_it = audit_archive(archive_of(content))
    assert len(all_of_it) == len(audit)
    assert {each.explanation for each in all_of_it.left_out} == {NOT_KEPT}


def test_what_could_not_be_read_stays_so(babble: Checkpoint, tmp_path: Path) -> None:
    gone = replace(babble.tensors[3], file=tmp_path / "gone.safetensors")
    cut = replace(babble.tensors[5], start=1 << 40, end=(1 << 40) + babble.tensors[5].bytes)
    tensors = [gone if each.name == gone.name else cut if each.name == cut.name else each for each in babble.tensors]
    audit, content = saved(replace(babble, tensors=tuple(tensors), missing=("lost.weight",)))
    assert {each.reason for each in audit.left_out} == {
        LeftOutReason.COULD_NOT_READ,
        LeftOutReason.REFUSED,
        LeftOutReason.MISSING,
    }
    assert report(audit_archive(archive_of(content))) == report(audit)
    without = Selection(exclude=(gone.name,))
    assert gone.name not in {
        each.name
        for each in audit_archive(archive_of(content), selection=without).left_out
        if each.reason is LeftOutReason.COULD_NOT_READ
    }


def test_an_archive_tells_headers_too(babble: Checkpoint, sketches: bytes) -> None:
    assert report(headers_of(archive_of(sketches).checkpoint)) == report(headers_of(babble))


def test_names_may_hold_any_text(tmp_path: Path) -> None:
    name = "sch\u00f6n \u202e \ud800 \x1b[31m.weight"
    model = checkpoint(tmp_path, {"a.weight": stored(np.ones((3, 4)))})
    model = replace(model, tensors=(replace(model.tensors[0], name=name),), location="models/\udcff")
    archive = archive_of(saved(model)[1])
    assert archive.checkpoint.location == model.location
    assert archive.histogram(name).special.weights == 12


def test_settings_without_end_or_meaning_do_not_matter(tmp_path: Path) -> None:
    deep: dict[str, object] = {}
    for _ in range(500):
        deep = {"deeper": deep}
    config = {"initializer_range": 0.02, "x": float("nan"), "deep": deep, "y": b"bytes", "zeros": [0] * FREE_BYTES}
    model = checkpoint(tmp_path, {"layers.0.mlp.up_proj.weight": stored(np.ones((70, 70)))}, config=config)
    audit, content = saved(model)
    assert report(audit_archive(archive_of(content))) == report(audit)


# ---- the file


def counted(weights: np.ndarray) -> dict[int, int]:
    codes, tallies = np.unique(weights, return_counts=True)
    return dict(zip(codes.tolist(), tallies.tolist(), strict=True))


def test_the_counts_are_those_of_the_stored_bytes(babble: Checkpoint, sketches: bytes) -> None:
    archive = archive_of(sketches)
    for tensor in babble.tensors:
        assert isinstance(tensor.file, Path)
        histogram = archive.histogram(tensor.name)
        stored_codes = np.frombuffer(tensor.file.read_bytes()[tensor.start : tensor.end], "<u2")
        assert dict(zip(histogram.codes.tolist(), histogram.tallies.tolist(), strict=True)) == counted(stored_codes)


def test_the_program_in_the_document_reads_it(
    babble: Checkpoint,
    sketches: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    [program] = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    save(Path("model.sketches.safetensors"), sketches)
    exec(program, {})  # noqa: S102 - our own document
    expected = []
    for tensor in babble.tensors:
        assert isinstance(tensor.file, Path)
        codes = np.frombuffer(tensor.file.read_bytes()[tensor.start : tensor.end], "<u2")
        expected.append(f"{tensor.name} {codes.size:,} weights, {(codes < 0x8000).sum():,} of them positive")
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(expected)


def test_the_safetensors_library_reads_it(sketches: bytes, tmp_path: Path) -> None:
    save(tmp_path / "a.safetensors", sketches)
    with safe_open(tmp_path / "a.safetensors", "np") as file:
        assert file.metadata()["format"] == "jaynes-sketches/1"
        assert set(file.keys()) == {"model", "histograms"}


def test_every_field_is_documented() -> None:
    model, document = model_of(corpus()[3]), DOCUMENT.read_text()
    fields = {*model, *model["tensors"][0], *model["layers"][0], *model["anatomies"][0]["residual"]}
    assert {field for field in fields if f"`{field}`" not in document} == set()


def test_an_archive_is_told_by_its_content(sketches: bytes, tmp_path: Path) -> None:
    path = tmp_path / "anything"
    save(path, sketches)
    assert is_archive(path)
    assert isinstance(open_target(str(path)), Archive)
    assert not is_archive(tmp_path)
    assert not is_archive(tmp_path / "nothing")
    assert not is_archive(FIXTURES / "babble/fp32/model.safetensors")


def test_no_weight_is_looked_for_where_an_archive_points(sketches: bytes) -> None:
    model = model_of(sketches)
    model["files"] = ["/etc/passwd"] * len(model["files"])
    tensor = archive_of(with_model(sketches, model)).checkpoint.tensors[0]
    with Sources(Io.PREAD) as sources, pytest.raises(CouldNotRead, match="holds no weights of '/etc/passwd'"):
        sources.of(tensor)
    assert isinstance(tensor.file, Elsewhere)


# ---- saving


def test_only_an_archive_is_ever_replaced(sketches: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    refuse_place(path, "model")
    save(path, sketches)
    refuse_place(path, "model")
    with pytest.raises(UsageError, match="the target itself"):
        refuse_place(path, str(path))
    path.write_bytes((FIXTURES / "babble/fp32/model.safetensors").read_bytes())
    for place in (path, tmp_path, tmp_path / "nowhere" / "a"):
        with pytest.raises(UsageError):
            refuse_place(place, "model")


def test_a_write_that_fails_leaves_what_was_there(sketches: bytes, tmp_path: Path, monkeypatch: Any) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"before")
    monkeypatch.setattr(Path, "replace", _fail)
    with pytest.raises(OSError, match="disk"):
        save(path, sketches)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == b"before"


def _fail(*_: object) -> None:
    raise OSError("disk full")


# ---- what is unsound


def changed(content: bytes, change: Any) -> bytes:
    model = model_of(content)
    change(model)
    return with_model(content, model)


HOSTILE = {
    "twice": lambda model: model["layers"].append(model["layers"][0] | {"size": 0}),
    "two tensors": lambda model: model["tensors"].append(model["tensors"][0]),
    "counts take": lambda model: model["layers"][0].update(size=1),
    "file or a quantiser": lambda model: model["tensors"][0].update(file=99),
    "larger than any": lambda model: model["tensors"][0].update(shape=[1 << 40, 1 << 20]),
    "number Infinity": lambda model: model["layers"][0].update(rms=float("inf")),
    "below 0": lambda model: model["layers"][0].update(rms=-1.0),
    "dtype": lambda model: model["tensors"][0].update(dtype="F7"),
    "content": lambda model: model["layers"][0].update(content="x" * 32),
    "shape": lambda model: model["tensors"][0].update(shape=[-1, 4]),
    "layers": lambda model: model.pop("layers"),
    "size": lambda model: model["layers"][0].update(size=1 << 64),
}


@pytest.mark.parametrize("mention", HOSTILE)
def test_an_unsound_description_is_refused_in_a_sentence(sketches: bytes, mention: str) -> None:
    with pytest.raises(RefusedFile, match=mention) as refusal:
        archive_of(changed(sketches, HOSTILE[mention]))
    assert refusal.value.rule == "JN003"
    assert "\n" not in str(refusal.value)


LAYER_DAMAGES = {
    "root mean square": lambda layer: layer.update(rms=1e6),
    "bits that its number format": lambda layer: layer.update(low_bits=1),
    "saturated": lambda layer: layer.update(max_finite=1 << 40),
    "zero rows": lambda layer: layer.update(scales=[0.1, 0.1, 999, 0]),
    "scales": lambda layer: layer.pop("scales"),
}


@pytest.mark.parametrize("mention", LAYER_DAMAGES)
def test_an_unsound_layer_is_a_finding_beside_the_others(sketches: bytes, mention: str) -> None:
    audit = audit_archive(archive_of(changed(sketches, lambda model: LAYER_DAMAGES[mention](model["layers"][0]))))
    [left_out] = audit.left_out
    assert left_out.reason is LeftOutReason.REFUSED
    assert mention in left_out.explanation
    assert [defect.rule for defect in audit.defects] == ["JN004"]
    assert not audit.coverage.complete


def test_counts_of_other_weights_than_the_shape_has_are_refused(sketches: bytes) -> None:
    def change(model: Any) -> None:
        model["tensors"][0]["shape"] = [2, 3]

    archive = archive_of(changed(sketches, change))
    with pytest.raises(RefusedFile, match="other weights"):
        archive.histogram(archive.checkpoint.tensors[0].name)
    with pytest.raises(KeyError):
        archive.histogram("no such layer")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("jaynes-sketches/2", UsageError),
        ("jaynes-sketches/1.5", UsageError),
        ("jaynes-sketches", RefusedFile),
        ("pt", RefusedFile),
    ],
)
def test_another_version_is_not_guessed_at(sketches: bytes, name: str, error: type[Exception]) -> None:
    parts, metadata = taken_apart(sketches)
    with pytest.raises(error, match=re.escape(repr(name))):
        archive_of(rebuilt(parts, metadata | {"format": name}))


def test_a_description_that_unpacks_without_end_is_refused(sketches: bytes) -> None:
    parts, metadata = taken_apart(sketches)
    bomb = zlib.compress(b" " * (8 << 20))
    with pytest.raises(RefusedFile, match="more or less than it may"):
        archive_of(rebuilt(parts | {"model": bomb}, metadata))
    deep = zlib.compress(b"[" * 100_000)
    with pytest.raises(RefusedFile, match="nested"):
        archive_of(rebuilt(parts | {"model": deep}, metadata))


def test_an_unsound_archive_is_a_checkpoint_of_that_defect(sketches: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(sketches[:-9])
    damaged = open_target(str(path))
    assert isinstance(damaged, Checkpoint)
    assert [defect.rule for defect in damaged.defects] == ["JN001"]
    with pytest.raises(RefusedFile):
        open_archive(path)


def test_damaged_archives_are_survived() -> None:
    ends, faults = survive(FUZZ, inputs=400, seed=20)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 20
