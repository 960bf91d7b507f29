"""Keras's own files, as Keras wrote them, against the weights that Keras held."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.keras_hdf5 import looks_like_keras, read_hdf5, read_keras
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.dtypes import Dtype, stored_codes, values
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.fuzzing import SourcesInMemory, read_tensor

pytest.importorskip("h5py")

from tests.support.hdf5_files import FIXTURES, KERAS_HOSTILE, ONE, Hostile, hdf5, keras_archive, weight

READERS = {"keras2.h5": read_hdf5, "keras3.weights.h5": read_hdf5, "keras3.keras": read_keras}
BFLOAT16 = {"small/dense_1/kernel", "small/dense_1/bias"}


def fixture(name: str) -> tuple[bytes, WeightFile]:
    content = (FIXTURES / name).read_bytes()
    return content, READERS[name](io.BytesIO(content), FIXTURES / name, len(content))


def expected() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "keras_expected.npz") as saved:
        return dict(saved)


def keras_path(name: str) -> str:
    """The path that Keras gives the variable which a Keras 3 file holds under this name."""
    return name.replace("layers.", "small.").replace("lstm.cell", "lstm.lstm_cell").replace(".", "/")


def keras_2_path(name: str) -> str:
    """The same for a Keras 2 file, where the layer's name stands before the path."""
    return name.partition(".")[2].replace(".", "/")


def read_all(content: bytes, weights: WeightFile) -> dict[str, np.ndarray]:
    with SourcesInMemory(content) as sources:
        return {
            tensor.name: values(
                stored_codes(memoryview(read_tensor(tensor, sources)), tensor.dtype), tensor.dtype
            ).reshape(tensor.shape)
            for tensor in weights.tensors
            if tensor.name not in weights.undecoded
        }


@pytest.mark.parametrize("name", ["keras3.weights.h5", "keras3.keras"])
def test_a_keras_3_file_holds_the_weights_that_keras_had(name: str) -> None:
    content, weights = fixture(name)
    ours = {keras_path(each): array for each, array in read_all(content, weights).items()}
    assert ours.keys() == expected().keys()
    for path, array in expected().items():
        assert np.array_equal(ours[path], array.astype(ours[path].dtype)), path
        assert ours[path].shape == array.shape
    dtypes = {keras_path(tensor.name): tensor.dtype for tensor in weights.tensors}
    assert {path for path, dtype in dtypes.items() if dtype is Dtype.BF16} == BFLOAT16
    assert dtypes["small/dense/kernel"] is Dtype.F16
    assert not weights.undecoded


def test_a_keras_2_file_holds_the_weights_that_keras_had() -> None:
    content, weights = fixture("keras2.h5")
    ours = {keras_2_path(each): array for each, array in read_all(content, weights).items()}
    assert ours.keys() == expected().keys() - BFLOAT16
    assert all(np.array_equal(array, expected()[path].astype(array.dtype)) for path, array in ours.items())
    # Keras writes bfloat16 into this format without a word of what it is, and cannot read it again itself.
    assert {keras_2_path(name) for name in weights.undecoded} == BFLOAT16


def test_tensors_of_an_archive_are_mapped_where_they_stand_in_it() -> None:
    content, weights = fixture("keras3.keras")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        member = archive.getinfo("model.weights.h5")
    for tensor in weights.tensors:
        assert tensor.decoder is None
        assert member.header_offset < tensor.start <= tensor.end <= member.header_offset + member.file_size + 100
    kernel = next(tensor for tensor in weights.tensors if tensor.name == "layers.conv1d.kernel")
    assert content[kernel.start : kernel.end] == expected()["small/conv1d/kernel"].tobytes()


@pytest.mark.parametrize("name", READERS)
def test_the_state_of_an_optimizer_is_passed_over_with_a_remark(name: str) -> None:
    _, weights = fixture(name)
    assert len(weights.remarks) == 1
    assert "the optimizer's state was passed over" in weights.remarks[0]
    assert not [tensor for tensor in weights.tensors if "optimizer" in tensor.name]


def test_names_of_transformers_are_those_of_its_own_models() -> None:
    path = "bert/tf_bert_model/bert/encoder/layer_._3/attention/self/query/kernel:0"
    content = hdf5(lambda file: file.create_dataset(path, data=weight()))
    (tensor,) = read_hdf5(io.BytesIO(content), Path("tf_model.h5"), len(content)).tensors
    assert tensor.name == "bert.tf_bert_model.bert.encoder.layer.3.attention.self.query.kernel"


@pytest.mark.parametrize(
    ("layer", "variables", "names"),
    [
        ("dense_4", 2, ["kernel", "bias"]),
        ("dense", 1, ["kernel"]),
        ("query_dense", 2, ["kernel", "bias"]),
        ("conv2d_transpose_1", 2, ["kernel", "bias"]),
        ("embedding", 1, ["embeddings"]),
        ("layer_normalization", 2, ["gamma", "beta"]),
        ("layer_normalization", 1, ["vars.0"]),
        ("dense", 3, ["vars.0", "vars.1", "vars.2"]),
        ("my_layer", 1, ["vars.0"]),
    ],
)
def test_numbered_variables_get_names_only_where_the_layer_tells_them(
    layer: str, variables: int, names: list[str]
) -> None:
    def fill(file) -> None:
        for number in range(variables):
            file[f"layers/{layer}/vars/{number}"] = weight()

    content = hdf5(fill)
    weights = read_hdf5(io.BytesIO(content), Path("a.weights.h5"), len(content))
    assert [tensor.name for tensor in weights.tensors] == [f"layers.{layer}.{name}" for name in names]


def test_an_archive_of_two_weight_files_gives_the_tensors_of_both() -> None:
    other = hdf5(lambda file: file.create_dataset("bias", data=weight()))
    content = keras_archive(ONE, **{"model_00001.weights.h5": other})
    weights = read_keras(io.BytesIO(content), Path("a.keras"), len(content))
    assert [tensor.name for tensor in weights.tensors] == ["kernel", "bias"]


@pytest.mark.parametrize("hostile", KERAS_HOSTILE, ids=lambda hostile: hostile.name)
def test_a_hostile_archive_is_refused_in_one_sentence(hostile: Hostile) -> None:
    with pytest.raises(RefusedFile) as refusal:
        read_keras(io.BytesIO(hostile.content), Path("a.keras"), len(hostile.content))
    assert (refusal.value.rule, refusal.value.case) == (hostile.rule, hostile.case)
    assert "\n" not in str(refusal.value)


def zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "is_keras"),
    [
        ((FIXTURES / "keras3.keras").read_bytes(), True),
        (keras_archive(ONE), True),
        (zipped("model.weights.h5", ONE), True),
        (zipped("config.json", b'{"module": "keras", "class_name": "Sequential"}'), True),
        (zipped("config.json", b'{"model_type": "bert"}'), False),
        (zipped("metadata.json", b"{}"), False),
        (zipped("archive/data.pkl", b"\x80\2."), False),
        (zipped("kernel.npy", b"\x93NUMPY"), False),
        (ONE, False),
        (b"PK\3\4", False),
        (b"", False),
    ],
)
def test_a_keras_archive_is_told_by_what_keras_writes_first(content: bytes, is_keras: bool) -> None:  # noqa: FBT001 - a case
    assert looks_like_keras(content[:512], len(content)) is is_keras
