"""Stored tensors that by their names belong together, and the weight that they make, or why they make none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from jaynes_audit.analyzers.checkpoints.decoding import Scheme
from jaynes_audit.analyzers.checkpoints.places import Span
from jaynes_audit.analyzers.checkpoints.quantised.decoder import Grid, Quantised
from jaynes_audit.analyzers.checkpoints.quantised.layouts import Layout, Plain
from jaynes_audit.analyzers.checkpoints.quantised.settings import Settings
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.dtypes import Dtype

Stored = Mapping[str, Tensor]
Contents = Mapping[str, bytes]

MOST_MATRICES = 4096  # of one stack: several times the experts of any published model
CODES = "codes"
SCALE_DTYPES = frozenset({Dtype.F16, Dtype.BF16, Dtype.F32, Dtype.F64})
EXPONENT_DTYPES = frozenset({Dtype.F8_E8M0, Dtype.U8})  # PyTorch stored exponents as plain bytes before it had E8M0


class CodesOnly(Exception):
    """The tensors of a claim cannot be turned into numbers; the message says why, without a full stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Tensors that belong together, by what each of them is for; the one under CODES holds the codes.

    `name` is the weight's, `reads` are those of the parts that are read at opening, as they decide how the others are
    to be read, and `make` makes the weight, or raises CodesOnly.
    """

    name: str
    parts: Mapping[str, Tensor]
    make: Callable[["Claim", Settings, Contents], Tensor]
    reads: tuple[str, ...] = ()

    @property
    def codes(self) -> Tensor:
        """The tensor with the codes."""
        return self.parts[CODES]

    def needed(self, *roles: str) -> tuple[Tensor, ...]:
        """The parts without which there is no weight."""
        missing = [role for role in roles if role not in self.parts]
        require(not missing, f"no tensor with their {' and their '.join(missing)} stands beside them")
        return tuple(self.parts[role] for role in roles)


def parts_of(stored: Stored, **names: str) -> dict[str, Tensor]:
    """Those of the named tensors that are stored, by what each is for."""
    return {role: stored[name] for role, name in names.items() if name in stored}


def require(condition: object, reason: str) -> None:
    """Raise CodesOnly unless the condition holds."""
    if not condition:
        raise CodesOnly(reason)


def matrices_of(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """A shape as (matrices, rows, columns); a vector is one row.

    Raises:
        CodesOnly: when there is nothing in it, or an absurd number of matrices.
    """
    require_something(shape)
    matrices = prod(shape[:-2])
    if matrices > MOST_MATRICES:
        raise CodesOnly(f"their shape {told(shape)} is a stack of more than {MOST_MATRICES:,} matrices")
    return matrices, shape[-2] if len(shape) > 1 else 1, shape[-1]


def told(shape: tuple[int, ...]) -> str:
    """A shape in words, cut where it is absurdly long."""
    return f"({', '.join(f'{size:,}' for size in shape[:8])})"


def require_something(shape: tuple[int, ...]) -> None:
    """Raise CodesOnly when a shape holds nothing."""
    if not shape or 0 in shape:
        raise CodesOnly(f"their shape {told(shape)} holds nothing")


def require_shape(tensor: Tensor, shape: tuple[int, ...], role: str) -> None:
    """Raise CodesOnly unless a part has this shape."""
    if tensor.shape != shape:
        raise CodesOnly(f"the tensor of {role} has shape {told(tensor.shape)} and should have {told(shape)}")


def require_dtype(tensor: Tensor, dtypes: frozenset[Dtype], role: str) -> None:
    """Raise CodesOnly unless a part has one of these dtypes."""
    if tensor.dtype not in dtypes:
        raise CodesOnly(f"the tensor of {role} is {tensor.dtype}, which it cannot be")


def require_method(settings: Settings, *methods: str) -> None:
    """Raise CodesOnly when the config.json names a method, and none of these."""
    require(
        settings.method in {"", *methods},
        "the quant_method of the config.json names another method than the tensors look like",
    )


def plain(tensor: Tensor, rows: int, columns: int, *, matrices: int = 1, dtype: Dtype | None = None) -> Plain:
    """A tensor's elements as matrices."""
    return Plain(tensor=tensor, dtype=dtype or tensor.dtype, rows=rows, columns=columns, matrices=matrices)


def scale_dtype(scale: Tensor) -> Dtype:
    """What the numbers of a scale are: floats, or powers of two. Raises CodesOnly for any other."""
    require_dtype(scale, SCALE_DTYPES | EXPONENT_DTYPES, "scales")
    return Dtype.F8_E8M0 if scale.dtype is Dtype.U8 else scale.dtype


def block_size(size: int, count: int, declared: tuple[int, ...]) -> int:
    """Along one axis, how many weights share a number when `count` numbers stand for `size` weights.

    Blocks of a declared size may leave a smaller last one; others are equal. Raises CodesOnly when neither can be.
    """
    if count == size:
        return 1
    for block in declared:
        if -(-size // block) == count:
            return block
    if not count or size % count:
        raise CodesOnly(f"{count:,} scales do not fit {size:,} weights")
    return size // count


def made(
    claim: Claim,
    scheme: Scheme,
    *,
    shape: tuple[int, ...],
    codes: Layout,
    numbers: Dtype | Layout,
    scales: Grid,
    zero: float = 0.0,
    zeros: Grid | None = None,
    groups: Layout | None = None,
    view: tuple[int, int] | None = None,
) -> Tensor:
    """The weight of a claim: float32 numbers of this shape, seen as matrices of `view` (rows, columns)."""
    rows, columns = view or matrices_of(shape)[1:]
    first = claim.codes
    read = (claim.parts[role] for role in claim.reads if role in claim.parts)
    return Tensor(
        name=claim.name,
        dtype=Dtype.F32,
        shape=shape,
        file=first.file,
        start=first.start,
        end=first.end,
        decoder=Quantised(
            scheme=scheme,
            parts=tuple(part.name for part in claim.parts.values()),
            rows=rows,
            columns=columns,
            codes=codes,
            numbers=numbers,
            scales=scales,
            zero=zero,
            zeros=zeros,
            groups=groups,
            at_opening=tuple(Span(part.file, part.start, part.end) for part in read),
        ),
    )
