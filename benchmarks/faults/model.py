"""A checkpoint in memory, byte for byte: what faults are injected into."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
import numpy.typing as npt

NUMPY_DTYPES: dict[str, npt.DTypeLike] = {
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
}
"""The number formats that can be computed with, under the names that safetensors gives them."""

LARGEST_E4M3 = 448.0
BLOCK = re.compile(r"(?P<stack>(?:.*?\.)?)(?P<number>\d+)\.(?P<member>.+)")

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A tensor as it lies in a file: the name of its number format, its shape, its bytes."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @property
    def is_float(self) -> bool:
        """Whether it can be computed with."""
        return self.dtype in NUMPY_DTYPES

    @property
    def is_matrix(self) -> bool:
        """Whether it has two axes or more, of which none is of length one."""
        return self.is_float and len(self.shape) > 1 and min(self.shape[0], self.weights // max(1, self.shape[0])) > 1

    @property
    def weights(self) -> int:
        """How many weights it has."""
        return int(np.prod(self.shape))

    @property
    def values(self) -> Floats:
        """The weights, in their shape. They may be written to: it is a copy."""
        decoded = np.frombuffer(self.data, NUMPY_DTYPES[self.dtype]).astype(np.float32)
        return decoded.reshape(self.shape)

    def holding(self, values: Floats) -> "Stored":
        """Hold other weights, in the same format; those that are the same keep their bytes."""
        return replace(self, shape=tuple(values.shape), data=_encoded(values, self.dtype))

    def cast(self, dtype: str) -> "Stored":
        """Round to another format. What is no float stays what it is."""
        if not self.is_float or dtype == self.dtype:
            return self
        return replace(self, dtype=dtype, data=_encoded(self.values, dtype))


Tensors = Mapping[str, Stored]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A checkpoint: its tensors in the order of the file, its config.json, and what it was at other steps.

    `earlier` has states of the same training, the oldest first; `initial` and `following` are the state before the
    first step and after one more, empty where unknown. `trained` is False of random weights.
    """

    name: str
    config: Mapping[str, object]
    tensors: Tensors
    trained: bool = True
    initial: Tensors
    earlier: tuple[Tensors, ...] = ()
    following: Tensors

    def holding(self, changed: Tensors) -> "Model":
        """Put other tensors in place of those of the same names."""
        return replace(self, tensors={**self.tensors, **changed})

    def cast(self, dtype: str) -> "Model":
        """Round all that is kept of it to another number format."""
        return replace(
            self,
            tensors=cast(self.tensors, dtype),
            initial=cast(self.initial, dtype),
            earlier=tuple(cast(each, dtype) for each in self.earlier),
            following=cast(self.following, dtype),
        )

    def setting(self, *names: str) -> int:
        """Give a size that config.json has under one of these names; 0 where it has none."""
        return next((value for name in names if isinstance(value := self.config.get(name), int)), 0)

    @property
    def layers(self) -> int:
        """How many blocks config.json speaks of."""
        return self.setting("num_hidden_layers", "n_layer", "num_layers")

    @property
    def heads(self) -> int:
        """How many attention heads a block has."""
        return self.setting("num_attention_heads", "n_head", "num_heads")

    @property
    def width(self) -> int:
        """How many numbers a token is."""
        return self.setting("hidden_size", "n_embd", "d_model")

    @property
    def matrices(self) -> dict[str, Stored]:
        """Its weight matrices, the smallest first."""
        found = {name: stored for name, stored in self.tensors.items() if stored.is_matrix}
        return dict(sorted(found.items(), key=lambda each: each[1].weights))

    @property
    def vectors(self) -> dict[str, Stored]:
        """Its vectors of weights."""
        return {name: stored for name, stored in self.tensors.items() if stored.is_float and not stored.is_matrix}

    @property
    def blocks(self) -> tuple["Block", ...]:
        """The blocks of its longest stack, in their order; none where there are fewer than two."""
        stacks: dict[str, dict[int, dict[str, str]]] = {}
        for name in self.tensors:
            found = BLOCK.fullmatch(name)
            if found:
                of_stack = stacks.setdefault(found["stack"], {})
                of_stack.setdefault(int(found["number"]), {})[found["member"]] = name
        if not stacks:
            return ()
        stack, blocks = max(stacks.items(), key=lambda each: len(each[1]))
        made = tuple(Block(prefix=f"{stack}{number}.", names=blocks[number]) for number in sorted(blocks))
        return made if len(made) > 1 else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a stack: the beginning of its tensors' names, and these names by what follows it."""

    prefix: str
    names: Mapping[str, str]


def matrices_of(block: Block, model: Model) -> Iterator[tuple[str, Stored]]:
    """Give the names and tensors of a block's matrices."""
    for name in block.names.values():
        if model.tensors[name].is_matrix:
            yield name, model.tensors[name]


def cast(tensors: Tensors, dtype: str) -> Tensors:
    """Round tensors to another format."""
    return {name: stored.cast(dtype) for name, stored in tensors.items()}


def _encoded(values: Floats, dtype: str) -> bytes:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values).astype(NUMPY_DTYPES[dtype]).tobytes()
