"""TensorFlow Lite models as the converter wrote them, against the interpreter's values; and those that lead astray."""

import io
import random
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.tensor import Tensor, WeightFile
from jaynes_audit.analyzers.checkpoints.tflite_model import looks_like_task, looks_like_tflite, read_task, read_tflite
from jaynes_audit.analyzers.checkpoints.windows import DecodedTensor
from jaynes_audit.analyzers.dtypes import NUMPY_DTYPES, Dtype
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.fuzzing import FileInMemory, SourcesInMemory, damaged_files, read_tensor, survive
from tests.support.tflite_files import (
    BF16,
    CONVERTED,
    FIXTURES,
    HOSTILE,
    I8,
    INT2,
    INT4,
    ONE,
    SIXTEEN,
    SOUND,
    TASK_HOSTILE,
    Hostile,
    Number,
    Table,
    bundle,
    model,
    quantization,
    tensor,
)
from tests.support.tflite_fuzz import FUZZ

LARGEST_FACTOR = 64  # an object in Python is that much larger than the few bytes of a file that it is made from
ALLOWANCE = 1_000_000
UNKNOWN = 99


def weights_of(content: bytes) -> WeightFile:
    reader = read_task if content.startswith(b"PK") else read_tflite
    return reader(io.BytesIO(content), Path("model"), len(content))


def array_of(content: bytes, one: Tensor) -> np.ndarray:
    with SourcesInMemory(content) as sources:
        return np.frombuffer(read_tensor(one, sources), NUMPY_DTYPES[one.dtype]).reshape(one.shape)


def arrays_of(content: bytes) -> dict[str, np.ndarray]:
    weights = weights_of(content)
    return {each.name: array_of(content, each) for each in weights.tensors if each.name not in weights.undecoded}


def expected(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"{name}_tflite_expected.npz") as saved:
        return {each.replace("|", "."): saved[each] for each in saved}


@pytest.mark.parametrize("name", CONVERTED)
def test_every_constant_is_bit_for_bit_what_the_interpreter_gives(name: str) -> None:
    ours = arrays_of(CONVERTED[name])
    reference = expected(name)
    assert ours.keys() == reference.keys()
    for each, array in reference.items():
        assert ours[each].dtype == array.dtype, each
        assert ours[each].shape == array.shape, each
        assert ours[each].tobytes() == array.tobytes(), each


@pytest.mark.parametrize(
    ("name", "formats"),
    [
        ("float32", {"F32", "I32"}),
        ("float16", {"F16", "I32"}),
        ("int8_weights", {"F32", "I32", "INT8"}),
        ("int8", {"I32", "INT8", "INT32"}),
    ],
)
def test_the_format_that_weights_are_stored_in_is_told(name: str, formats: set[str]) -> None:
    tensors = weights_of(CONVERTED[name]).tensors
    assert {each.stored_as for each in tensors} == formats
    assert all(each.stored_bytes == each.end - each.start for each in tensors)


@pytest.mark.parametrize("name", ["int8", "int8_weights"])
def test_any_run_of_quantised_weights_is_what_the_interpreter_gives(name: str) -> None:
    content, reference = CONVERTED[name], expected(name)
    source = FileInMemory(content)
    dice = random.Random(20_268)  # noqa: S311 - for variety, not for secrecy
    for one in weights_of(content).tensors:
        if one.decoder is None:
            continue
        flat = reference[one.name].reshape(-1)
        for _ in range(100):
            first, stop = sorted(dice.randrange(flat.size + 1) for _ in range(2))
            elements = one.decoder.decode(lambda _, start, end: source.read(start, end), first, stop).elements
            assert elements.tobytes() == flat[first:stop].tobytes()


def test_codes_are_counted_as_they_are_stored() -> None:
    content = CONVERTED["int8"]
    one = next(each for each in weights_of(content).tensors if each.shape == (16, 64))
    assert one.decoder
    with SourcesInMemory(content) as sources:
        reading = sources.of(one)
        assert isinstance(reading, DecodedTensor)
        reading.read(0, one.bytes)
    stored = np.frombuffer(content[one.start : one.end], np.uint8)
    assert np.array_equal(reading.code_tallies, np.bincount(stored, minlength=256))


# ---- models made here; TensorFlow's interpreter loads them, and gives the codes below


def test_codes_of_four_bits_are_unpacked_the_lower_first() -> None:
    (one,) = weights_of(SOUND["int4"]).tensors
    codes = np.array([[1, 2, 3], [4, 5, 6], [7, -8, -7]])
    wanted = (codes - np.array([[1], [0], [-1]])) * np.array([[0.5], [1], [2]])
    assert np.array_equal(array_of(SOUND["int4"], one), wanted)
    assert one.stored_as == "INT4"
    assert one.decoder
    source = FileInMemory(SOUND["int4"])
    for first in range(9):
        for stop in range(first, 10):
            decoded = one.decoder.decode(lambda _, start, end: source.read(start, end), first, stop)
            assert np.array_equal(decoded.elements, wanted.reshape(-1)[first:stop])
            assert decoded.codes is not None
            assert np.array_equal(decoded.codes, codes.reshape(-1)[first:stop] & 15)


def test_scales_may_stand_along_the_last_dimension() -> None:
    content = SOUND["per channel of the last dimension"]
    wanted = (np.array([[-6, -5, -4], [-3, -2, -1]]) - [1, 0, -1]) * [0.5, 1, 2]
    assert np.array_equal(arrays_of(content)["w"], wanted)


def test_tensors_of_one_buffer_are_one_tensor_and_its_aliases() -> None:
    weights = weights_of(SOUND["two subgraphs and a shared buffer"])
    assert [each.name for each in weights.tensors] == ["a", "b", "subgraph_1.c"]
    assert weights.aliases == {"subgraph_1.a": "a"}


def test_a_buffer_may_stand_behind_the_flatbuffer() -> None:
    content = SOUND["data behind the flatbuffer"]
    (one,) = weights_of(content).tensors
    assert (one.start, one.end) == (len(content) - 16, len(content))
    assert np.array_equal(array_of(content, one), [[1, 2], [3, 4]])


def test_a_name_that_stands_twice_gets_a_number() -> None:
    weights = weights_of(model([tensor("a"), tensor("a", buffer=2)], [SIXTEEN, SIXTEEN]))
    assert [each.name for each in weights.tensors] == ["a", "a#2"]


def test_text_is_passed_over_with_a_remark() -> None:
    weights = weights_of(SOUND["text"])
    assert [each.name for each in weights.tensors] == ["v"]
    assert weights.remarks == ("1 constants that are text or resources were passed over: 'w'",)


def test_whole_numbers_without_a_scale_stay_whole_numbers() -> None:
    content = model([tensor("w", (4,), I8)], [bytes((1, 2, 255, 4))])
    assert arrays_of(content)["w"].tolist() == [1, 2, -1, 4]


def test_bfloat16_is_known() -> None:
    (one,) = weights_of(model([tensor("b", (2,), BF16)], [bytes(4)])).tensors
    assert one.dtype is Dtype.BF16


@pytest.mark.parametrize(
    ("one", "content", "reason"),
    [
        (tensor(sparsity=Table({})), SIXTEEN, "a sparse tensor, which is not read here"),
        (tensor(external_buffer=Number(1)), b"", "its weights are in another file, which is not opened"),
        (tensor(kind=UNKNOWN), SIXTEEN, "elements of type 99"),
        (tensor(kind=INT4), bytes(2), "codes of 4 bits without a scale"),
        (tensor(kind=INT2), bytes(1), "codes of 2 bits without a scale"),
        (tensor(kind=I8, quantization=quantization((1,), details=2)), bytes(4), "codes with scales for blocks"),
    ],
    ids=["sparse", "external", "unknown type", "INT4 alone", "INT2", "blocks"],
)
def test_what_cannot_be_turned_into_numbers_is_listed_with_the_reason(one: Table, content: bytes, reason: str) -> None:
    weights = weights_of(model([one], [content]))
    assert [each.name for each in weights.tensors] == ["w"]
    assert weights.undecoded["w"].startswith(reason)


def test_a_scale_that_is_no_number_makes_weights_that_are_none_and_no_warning() -> None:
    content = model(
        [tensor("w", (2, 2), I8, quantization=quantization((np.inf, 3e38), (0, 0), 0))], [bytes((0, 1, 127, 127))]
    )
    weights = arrays_of(content)["w"]
    assert np.isnan(weights[0, 0])
    assert np.isinf(weights[0, 1])
    assert np.isinf(weights[1]).all()


# ---- bundles


def test_a_bundle_gives_the_constants_of_every_model_in_it() -> None:
    content = bundle(a__tflite=CONVERTED["float32"], b__tflite=CONVERTED["int8"], labels__txt=b"words")
    wanted = {f"a/{name}": array for name, array in expected("float32").items()}
    wanted |= {f"b/{name}": array for name, array in expected("int8").items()}
    ours = arrays_of(content)
    assert ours.keys() == wanted.keys()
    assert all(ours[name].tobytes() == array.tobytes() for name, array in wanted.items())


def test_a_bundle_in_a_bundle_is_read_and_one_model_alone_needs_no_prefix() -> None:
    inner = bundle(detector__tflite=ONE)
    assert [each.name for each in weights_of(bundle(hand__task=inner, g__tflite=ONE)).tensors] == [
        "hand/detector/w",
        "g/w",
    ]
    assert [each.name for each in weights_of(bundle(hand__task=inner)).tensors] == ["w"]


def test_tensors_of_a_bundle_are_mapped_where_they_stand_in_it() -> None:
    content = bundle(a__task=bundle(b__tflite=ONE))
    (one,) = weights_of(content).tensors
    assert content[one.start : one.end] == SIXTEEN


# ---- refusals


@pytest.mark.parametrize("hostile", [*HOSTILE, *TASK_HOSTILE], ids=lambda hostile: hostile.name)
def test_a_hostile_file_is_refused_in_one_sentence(hostile: Hostile) -> None:
    with pytest.raises(RefusedFile) as refusal:
        weights_of(hostile.content)
    assert (refusal.value.rule, refusal.value.case) == (hostile.rule, hostile.case)
    assert "\n" not in str(refusal.value)
    assert "; " in str(refusal.value)


def test_a_model_cut_anywhere_before_its_last_table_ends_is_refused() -> None:
    for length in range(ONE.index(SIXTEEN) + len(SIXTEEN)):
        with pytest.raises(RefusedFile):
            weights_of(ONE[:length])


def zipped(name: str, content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def test_a_model_and_a_bundle_are_told_by_their_content() -> None:
    for content in CONVERTED.values():
        assert looks_like_tflite(content[:512], len(content))
    assert not looks_like_tflite(b"\xff\xff\xff\xffTFL3", 100)
    assert not looks_like_tflite(b"", 0)
    for task in (bundle(a__tflite=ONE), bundle(no_suffix=ONE), bundle(a__task=bundle(b__tflite=ONE))):
        assert looks_like_task(task[:512], len(task))
    for other in (zipped("archive/data.pkl", b"\x80\2."), zipped("a.npy", b"\x93NUMPY"), zipped("a.tflite", b""), ONE):
        assert not looks_like_task(other[:512], len(other))
    assert not looks_like_task(b"PK\3\4", 4)


# ---- fuzzing


def test_damaged_models_are_read_or_refused_and_nothing_else() -> None:
    ends, faults = survive(FUZZ, inputs=4000, seed=20_269)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 200, "the damage leaves too few models sound to read their elements"


def test_a_damaged_model_takes_memory_in_proportion_to_its_length() -> None:
    for content in (*damaged_files(FUZZ, inputs=300, seed=20_270), *(each.content for each in HOSTILE)):
        tracemalloc.start()
        try:
            with suppress(RefusedFile):
                weights_of(content)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < LARGEST_FACTOR * len(content) + ALLOWANCE
