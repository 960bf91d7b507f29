"""Every number format against those who know it already: ml_dtypes, NumPy, the safetensors library."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import save_file

from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.dtypes import (
    BITS,
    FLOATS,
    NOT_SAFETENSORS,
    NUMPY_DTYPES,
    SMALL_FLOATS,
    Dtype,
    bf16_codes,
    stored_codes,
    unpack,
    values,
)
from tests.support.weights import ML_DTYPES, SMALL, oracle_dtype, packed


def all_codes(dtype: Dtype) -> np.ndarray:
    return np.arange(1 << BITS[dtype], dtype=np.uint8 if BITS[dtype] <= 8 else np.uint16)


def as_oracle_reads(codes: np.ndarray, dtype: Dtype) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # signalling NaNs
        return codes.view(oracle_dtype(dtype)).astype(np.float32)


@pytest.mark.parametrize("dtype", SMALL)
def test_every_code_of_a_small_float_has_its_value(dtype: Dtype) -> None:
    expected = as_oracle_reads(all_codes(dtype), dtype)
    read = values(all_codes(dtype), dtype)
    np.testing.assert_array_equal(np.isnan(read), np.isnan(expected))
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(read[number], expected[number])


@pytest.mark.parametrize("dtype", SMALL)
def test_zero_has_the_sign_that_is_stored(dtype: Dtype) -> None:
    expected = as_oracle_reads(all_codes(dtype), dtype)
    read = values(all_codes(dtype), dtype)
    zero = expected == 0
    np.testing.assert_array_equal(np.signbit(read[zero]), np.signbit(expected[zero]))


@pytest.mark.parametrize("dtype", SMALL)
def test_no_two_codes_of_a_small_float_are_taken_for_one_another(dtype: Dtype) -> None:
    assert np.unique(bf16_codes(dtype)).size == 1 << BITS[dtype]


@pytest.mark.parametrize("dtype", SMALL)
def test_the_table_of_a_small_float_cannot_be_changed(dtype: Dtype) -> None:
    with pytest.raises(ValueError, match="read-only"):
        bf16_codes(dtype)[0] = 1


@pytest.mark.parametrize("dtype", SMALL)
def test_a_small_float_is_as_finite_as_ml_dtypes_says(dtype: Dtype) -> None:
    expected, read = as_oracle_reads(all_codes(dtype), dtype), values(all_codes(dtype), dtype)
    np.testing.assert_array_equal(np.isinf(read), np.isinf(expected))


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F16])
def test_every_code_of_a_16_bit_float_has_its_value(dtype: Dtype) -> None:
    codes = all_codes(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = values(stored_codes(memoryview(codes.tobytes()), dtype), dtype)
    expected = as_oracle_reads(codes, dtype)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_array_equal(np.signbit(read[expected == 0]), np.signbit(expected[expected == 0]))


@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.F64, Dtype.C64, Dtype.C128])
def test_wide_floats_are_themselves(dtype: Dtype) -> None:
    numbers = np.array([0.1, -0.0, 1e-40, np.inf, 3e38], NUMPY_DTYPES[dtype])
    read = values(stored_codes(memoryview(numbers.tobytes()), dtype), dtype)
    assert read.tobytes() == numbers.tobytes()


PACKED = [Dtype.F4, Dtype.F6_E2M3, Dtype.F6_E3M2]


@pytest.mark.parametrize("dtype", PACKED)
@given(data=st.data())
def test_packed_elements_come_back_as_they_went_in(dtype: Dtype, data: st.DataObject) -> None:
    groups = data.draw(st.integers(0, 40))
    elements = st.integers(0, (1 << BITS[dtype]) - 1)
    codes = data.draw(hnp.arrays(np.uint8, groups * 4, elements=elements))
    np.testing.assert_array_equal(stored_codes(memoryview(packed(codes, dtype)), dtype), codes)


def test_the_first_packed_element_is_the_lowest() -> None:
    assert unpack(np.array([0x21, 0x43], np.uint8), 4).tolist() == [1, 2, 3, 4]
    assert unpack(np.array([0b10_000001, 0b0011_0000, 0b000100_00], np.uint8), 6).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("dtype", [Dtype.F16, Dtype.BF16, Dtype.F32, Dtype.F64, Dtype.I64])
def test_bytes_need_not_be_aligned(dtype: Dtype) -> None:
    numbers = np.arange(6, dtype=oracle_dtype(dtype))
    shifted = memoryview(b"\0" + numbers.tobytes())[1:]
    assert stored_codes(shifted, dtype).tobytes() == numbers.tobytes()


def test_every_format_has_a_width() -> None:
    assert set(BITS) == set(Dtype)


def test_every_format_can_be_read() -> None:
    assert {*NUMPY_DTYPES, *SMALL_FLOATS, Dtype.BF16, Dtype.C32} == set(Dtype)
    assert {dtype for dtype, known in NUMPY_DTYPES.items() if known.itemsize * 8 != BITS[dtype]} == set()


def test_a_format_with_a_fraction_or_an_exponent_holds_weights() -> None:
    assert {dtype for dtype in Dtype if dtype[0] in "FBC" and dtype is not Dtype.BOOL} == FLOATS


WRITTEN: Mapping[Dtype, np.dtype[np.generic]] = {
    dtype: known
    for dtype, known in {**NUMPY_DTYPES, **ML_DTYPES}.items()
    if dtype
    not in {
        *PACKED,
        *NOT_SAFETENSORS,
        Dtype.F8_E8M0,
        Dtype.F8_E4M3FNUZ,
        Dtype.F8_E5M2FNUZ,
    }  # its NumPy side knows none of these
}


@pytest.mark.parametrize("dtype", WRITTEN)
def test_what_the_safetensors_library_wrote_is_read_back(dtype: Dtype, tmp_path: Path) -> None:
    raw = np.random.default_rng(1).integers(0, 2 if dtype is Dtype.BOOL else 128, 24 * BITS[dtype] // 8, np.uint8)
    array = raw.view(WRITTEN[dtype]).reshape(4, 6)
    path = tmp_path / "model.safetensors"
    save_file({"w": array}, path)
    (tensor,) = open_checkpoint(str(path)).tensors
    assert (tensor.dtype, tensor.shape) == (dtype, (4, 6))
    codes = stored_codes(memoryview(path.read_bytes())[tensor.start : tensor.end], dtype)
    assert codes.tobytes() == array.tobytes()
    if dtype in FLOATS:
        np.testing.assert_array_equal(values(codes, dtype), array.reshape(-1).astype(values(codes, dtype).dtype))
