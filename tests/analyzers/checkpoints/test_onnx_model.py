"""ONNX models against the values that the onnx library and PyTorch give, and hostile ones against their refusals."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.foreign import PROBE
from jaynes_audit.analyzers.checkpoints.onnx_model import graph as onnx_graph
from jaynes_audit.analyzers.checkpoints.onnx_model import looks_like_onnx, read_onnx
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.dtypes import BITS, Dtype, unpack
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.fuzzing import read_tensor, survive
from tests.support.onnx_files import (
    CORPUS,
    EIGHT,
    HOSTILE,
    INT64,
    Hostile,
    external,
    field,
    graph,
    model,
    nested,
    node,
    tensor,
    wrapped,
)
from tests.support.onnx_fuzz import FUZZ

FIXTURES = Path("fixtures/formats")


def read(path: Path) -> WeightFile:
    with opened(path) as (stream, size):
        head = stream.read(PROBE)
        assert looks_like_onnx(head, size)
        return read_onnx(stream, path, size)


def read_bytes(content: bytes) -> WeightFile:
    return read_onnx(BytesIO(content), Path("model.onnx"), len(content))


def codes(weights: WeightFile) -> dict[str, np.ndarray]:
    """All tensors, as unsigned integers of the same width; an element of four or six bits in a byte of its own."""
    found = {}
    with Sources(Io.MMAP) as sources:
        for each in weights.tensors:
            content = np.frombuffer(read_tensor(each, sources), np.uint8)
            if BITS[each.dtype] < 8:
                content = unpack(content, BITS[each.dtype])
            width = max(1, BITS[each.dtype] // 8)
            found[each.name] = content.view("c16" if width == 16 else f"u{width}").reshape(each.shape)
    return found


def assert_equal(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> None:
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].shape == array.shape, name
        assert ours[name].tobytes() == array.tobytes(), name


@pytest.fixture(scope="module")
def every_type() -> WeightFile:
    return read(FIXTURES / "every_type.onnx")


def test_every_number_is_what_the_library_reads(every_type: WeightFile) -> None:
    with np.load(FIXTURES / "every_type_expected.npz") as expected:
        assert_equal(codes(every_type), {name: expected[name] for name in expected if name not in every_type.undecoded})


def test_what_cannot_be_turned_into_numbers_is_named_with_its_reason(every_type: WeightFile) -> None:
    assert every_type.undecoded["text"] == "it holds text"
    small = {f"{kind}.{place}" for kind in ("UINT4", "INT4", "UINT2", "INT2") for place in ("raw", "typed")}
    unpacked = {"FLOAT4E2M1.typed", "FLOAT6E2M3.typed", "FLOAT6E3M2.typed"}
    assert every_type.undecoded.keys() == {"text"} | small | unpacked


def test_constants_that_are_settings_are_passed_over(every_type: WeightFile) -> None:
    names = {each.name for each in every_type.tensors}
    assert "constant" in names
    assert not names & {"axes", "epsilon"}


def test_quantised_and_sparse_weights_are_remarked_on(every_type: WeightFile) -> None:
    quantised, sparse = every_type.remarks
    assert "'DequantizeLinear'" in quantised
    assert "'sparse'" in sparse


def test_raw_numbers_are_mapped_in_place(every_type: WeightFile) -> None:
    raw = [each for each in every_type.tensors if each.name.endswith(".raw")]
    assert len(raw) == 23
    assert all(each.decoder is None for each in raw)


@pytest.mark.parametrize("exporter", ["torch_script", "torch_dynamo"])
def test_pytorchs_exporters_keep_every_weight(exporter: str) -> None:
    weights = read(FIXTURES / f"{exporter}.onnx")
    ours = codes(weights)
    with np.load(FIXTURES / "torch_expected.npz") as expected:
        for name in expected:
            assert np.array_equal(ours[name], expected[name]), name
    assert not weights.defects


def test_external_weights_are_read_in_the_file_beside_the_model() -> None:
    weights = read(FIXTURES / "torch_dynamo.onnx")
    assert {each.file.name for each in weights.tensors} >= {"torch_dynamo.onnx.data"}


# ---- against the library itself, where it is installed


def test_a_model_with_external_data_is_read_as_the_library_reads_it(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    dice = np.random.default_rng(0)
    arrays = {f"w{size}": dice.standard_normal((size, 3)).astype(np.float32) for size in (1, 7, 500)}
    initializers = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    made = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], initializer=initializers))
    path = tmp_path / "model.onnx"
    onnx.save(made, path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    weights = read(path)
    assert {each.file.name for each in weights.tensors} == {"model.onnx_data"}
    assert_equal(codes(weights), {name: array.view("u4") for name, array in arrays.items()})


def test_long_lists_of_varints_are_read_in_any_pieces(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    numbers = dice.integers(-(1 << 62), 1 << 62, 60_000) >> dice.integers(0, 62, 60_000)
    packed = field(7, numbers.tolist())
    path = tmp_path / "model.onnx"
    path.write_bytes(model(tensor(code=INT64, dims=(60_000,), raw=None, more=packed)))
    (found,) = read(path).tensors
    with Sources(Io.MMAP) as sources:
        source = sources.of(found)
        for first, stop in ((0, 1), (45_000, 45_003), (0, 60_000), (59_999, 60_000)):
            assert np.array_equal(np.frombuffer(source.read(8 * first, 8 * stop), "<i8"), numbers[first:stop])


# ---- where external data may be


def model_beside(folder: Path, location: str = "weights.data") -> Path:
    (folder / "model.onnx").write_bytes(model(external(location=location, offset="0", length="8")))
    return folder / "model.onnx"


def test_two_tensors_in_the_same_bytes_are_one_and_its_alias(tmp_path: Path) -> None:
    (tmp_path / "weights.data").write_bytes(EIGHT)
    path = tmp_path / "model.onnx"
    path.write_bytes(model(external("a", location="weights.data"), external("b", location="./weights.data")))
    weights = read(path)
    assert [each.name for each in weights.tensors] == ["a"]
    assert weights.aliases == {"b": "a"}


def test_tensors_that_share_only_some_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.data").write_bytes(EIGHT * 2)
    path = tmp_path / "model.onnx"
    path.write_bytes(model(external("a", location="weights.data"), external("b", location="weights.data", offset="4")))
    weights = read(path)
    assert [each.name for each in weights.tensors] == ["a"]
    assert [each.case for each in weights.defects] == ["onnx-external-overlap"]


def test_no_tensor_hides_that_others_share_bytes(tmp_path: Path) -> None:
    (tmp_path / "weights.data").write_bytes(bytes(400))

    def at(name: str, offset: int, numbers: int) -> bytes:
        places = {"location": "weights.data", "offset": str(offset)}
        told = b"".join(field(13, field(1, key) + field(2, value)) for key, value in places.items())
        return tensor(name, dims=(numbers,), raw=None, more=told + field(14, 1))

    path = tmp_path / "model.onnx"
    path.write_bytes(
        model(
            *(at("all", 0, 80), at("none", 4, 0), at("inside", 4, 10), at("same", 0, 80), at("none too", 40, 0)),
            *(at("later", 80, 70), at("of the later", 340, 10), at("after", 380, 5)),
        )
    )
    weights = read(path)
    assert [each.name for each in weights.tensors] == ["all", "none", "none too", "after"]
    assert weights.aliases == {"same": "all"}
    (defect,) = weights.defects
    assert (defect.rule, defect.case) == ("JN004", "onnx-external-overlap")
    assert defect.sentence.startswith("'inside', 'later', 'of the later' cannot be read")


def test_a_file_in_a_folder_below_may_hold_weights(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/weights.data").write_bytes(EIGHT)
    assert not read(model_beside(tmp_path, "sub/weights.data")).defects


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(EIGHT)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights.data").symlink_to("../secret")
    (defect,) = read(model_beside(tmp_path / "model")).defects
    assert (defect.rule, defect.case) == ("JN004", "onnx-link-outside")


def test_a_folder_that_is_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/weights.data").write_bytes(EIGHT)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/sub").symlink_to("../elsewhere")
    (defect,) = read(model_beside(tmp_path / "model", "sub/weights.data")).defects
    assert defect.case == "onnx-link-outside"


def test_links_of_the_hubs_cache_are_followed(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots/0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "ab").write_bytes(model(external(location="weights.data")))
    (blobs / "cd").write_bytes(EIGHT)
    (snapshot / "model.onnx").symlink_to("../../blobs/ab")
    (snapshot / "weights.data").symlink_to("../../blobs/cd")
    weights = read(snapshot / "model.onnx")
    assert not weights.defects
    assert codes(weights)["w"].tobytes() == EIGHT


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/dev/zero")], ids=["folder", "device"])
def test_what_is_no_regular_file_is_never_opened(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "weights.data")
    (defect,) = read(model_beside(tmp_path)).defects
    assert defect.case in {"not-a-regular-file", "onnx-link-outside"}


# ---- hostile models


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_model_is_refused_for_its_fault(hostile: Hostile, tmp_path: Path) -> None:
    (tmp_path / "weights.data").write_bytes(EIGHT)
    try:
        weights = read_onnx(BytesIO(hostile.content), tmp_path / "model.onnx", len(hostile.content))
        found = [(each.rule, each.case) for each in weights.defects]
        assert not weights.tensors
    except RefusedFile as refusal:
        found = [(refusal.rule, refusal.case)]
    assert found == [(hostile.rule, hostile.case)]


def test_one_bad_tensor_leaves_the_others() -> None:
    weights = read_bytes(model(tensor("bad", dims=(3,)), tensor("good"), tensor("worse", dims=(4,))))
    assert [each.name for each in weights.tensors] == ["good"]
    assert [each.sentence[:35] for each in weights.defects] == [
        "'bad' cannot be read: it needs 12 b",
        "'worse' cannot be read: it needs 16",
    ]


def test_many_tensors_of_a_missing_file_are_one_defect(tmp_path: Path) -> None:
    lost = [external(f"w{index}", location="weights.data") for index in range(100)]
    path = tmp_path / "model.onnx"
    path.write_bytes(model(*lost))
    (defect,) = read(path).defects
    assert "and 95 more" in defect.sentence


def test_32_graphs_in_one_another_are_read() -> None:
    (found,) = read_bytes(nested(32)).tensors
    assert found.name == 31 * "o.then_branch." + "w"


def test_names_are_bounded_one_by_one_and_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    content = model(tensor("w" * 1000), tensor("v" * 1000))
    assert [len(each.name) for each in read_bytes(content).tensors] == [1000, 1000]
    monkeypatch.setattr(onnx_graph, "MOST_CHARACTERS", 1999)
    with pytest.raises(RefusedFile) as refusal:
        read_bytes(content)
    assert (refusal.value.rule, refusal.value.case) == ("JN003", "onnx-name-too-long")


def test_training_graphs_are_passed_over_aloud() -> None:
    weights = read_bytes(wrapped(graph(tensor()), field(20, field(1, graph(tensor("moment"))))))
    assert [each.name for each in weights.tensors] == ["w"]
    assert weights.remarks == ("its training graphs were passed over",)


def test_an_attribute_that_holds_weights_is_named_by_its_node() -> None:
    attribute = field(1, "table") + field(5, tensor())
    weights = read_bytes(model(more=field(1, node("Lookup", attribute, name="first"))))
    assert [each.name for each in weights.tensors] == ["first.table"]


# ---- what is an ONNX model


@pytest.mark.parametrize("content", CORPUS, ids=range(len(CORPUS)))
def test_models_are_told_by_their_first_bytes(content: bytes) -> None:
    assert looks_like_onnx(content[:PROBE], len(content))


def test_a_model_with_a_long_description_is_told() -> None:
    content = field(1, 10) + field(6, "d" * 10_000) + field(7, graph(tensor()))
    assert looks_like_onnx(content[:PROBE], len(content))
    assert [each.name for each in read_bytes(content).tensors] == ["w"]


def test_other_files_are_not_taken_for_models() -> None:
    dice = np.random.default_rng(0)
    others = [
        *(b"\x08" + dice.bytes(PROBE - 1) for _ in range(20_000)),
        b"",
        b"\x08",
        b"\x08\x07",
        b"PK\3\4" + bytes(100),
    ]
    assert not any(looks_like_onnx(head, 1 << 30) for head in others)
    for file in FIXTURES.iterdir():
        with opened(file) as (stream, size):
            assert looks_like_onnx(stream.read(PROBE), size) == (file.suffix == ".onnx"), file


def test_the_reader_survives_damaged_models() -> None:
    ends, faults = survive(FUZZ, inputs=2500, seed=20)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 250


def test_f4_and_f6_keep_their_packing() -> None:
    packed = {each.name: each.dtype for each in read(FIXTURES / "every_type.onnx").tensors if BITS[each.dtype] < 8}
    assert packed == {
        "FLOAT4E2M1.raw": Dtype.F4,
        "FLOAT6E2M3.raw": Dtype.F6_E2M3,
        "FLOAT6E3M2.raw": Dtype.F6_E3M2,
    }
