"""What safetensors itself says about a file: the judge that our own parser is held to."""

from dataclasses import dataclass

import safetensors


@dataclass(frozen=True, slots=True)
class ReferenceTensor:
    """One tensor as safetensors reads it."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


def reference_tensors(content: bytes) -> dict[str, ReferenceTensor] | safetensors.SafetensorError:
    """The tensors by name, or the error with which safetensors refuses the file."""
    try:
        read = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        return error
    return {
        name: ReferenceTensor(dtype=each["dtype"], shape=tuple(each["shape"]), data=bytes(each["data"]))
        for name, each in read
    }
