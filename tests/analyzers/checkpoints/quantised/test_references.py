"""Every scheme gives the numbers that its own library gives, on files that the library wrote."""

from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.checkpoints.quantised import dequantised
from tests.support.quantised_files import decoder_of, opened, weights

FIXTURES = Path(__file__).parents[4] / "fixtures" / "quantised"
KINDS = sorted(path.stem for path in FIXTURES.glob("*.npz"))
LARGEST_ERROR = {
    "nvfp4-pack-quantized": 2**-8,  # compressed-tensors multiplies in bfloat16, which has 8 bits of fraction
    "bitsandbytes-8bit": 2**-22,  # two float32 products in another order
}
LABELS = {
    "awq": {"AWQ-4"},
    "bitsandbytes-4bit": {"NF4", "FP4"},
    "bitsandbytes-8bit": {"BNB-INT8"},
    "deepseek": {"FP8-32x48"},
    "float-quantized": {"FP8", "FP8-16x48"},
    "fp4-in-int8": {"MXFP4"},
    "gpt-oss": {"MXFP4"},
    "int-quantized": {"INT8"},
    "mxfp4-pack-quantized": {"MXFP4"},
    "mxfp6-pack-quantized": {"MXFP6"},
    "mxfp8-quantized": {"MXFP8"},
    "nvfp4-pack-quantized": {"NVFP4"},
    **{f"gptq-{bits}": {f"GPTQ-{bits}"} for bits in (2, 3, 4, 8)},
    **{f"pack-quantized-{bits}": {f"CT-{bits}"} for bits in range(2, 9)},
}


def test_there_is_a_file_of_every_kind() -> None:
    assert set(KINDS) == set(LABELS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_those_of_the_library(kind: str) -> None:
    content = (FIXTURES / f"{kind}.safetensors").read_bytes()
    checkpoint = dequantised(opened(content))
    with np.load(FIXTURES / f"{kind}.npz") as archive:
        expected = dict(archive)
    assert dict(checkpoint.undecoded) == {}
    assert {tensor.name for tensor in checkpoint.tensors} == set(expected)
    for tensor in checkpoint.tensors:
        made, reference = weights(tensor), expected[tensor.name]
        assert made.shape == reference.shape
        error = np.abs(made - reference).max() / np.abs(reference).max()
        assert error <= LARGEST_ERROR.get(kind, 0), tensor.name
        assert reference.std() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_every_stored_tensor_and_byte_counts_once(kind: str) -> None:
    content = (FIXTURES / f"{kind}.safetensors").read_bytes()
    stored = opened(content)
    made = dequantised(stored)
    assert sum(tensor.stored_tensors for tensor in made.tensors) == len(stored.tensors)
    assert sum(tensor.stored_bytes for tensor in made.tensors) == sum(each.end - each.start for each in stored.tensors)
    assert {tensor.stored_as for tensor in made.tensors} == LABELS[kind]
    names = [name for tensor in made.tensors for name in decoder_of(tensor).parts]
    assert sorted(names) == sorted(each.name for each in stored.tensors)
