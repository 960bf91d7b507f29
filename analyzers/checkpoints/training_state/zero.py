"""DeepSpeed's ZeRO: an optimizer whose memory is cut over ranks, each with a file of its own.

Stages 1 and 2 lay the parameters of a group end to end, and cut the row into one part for each rank. Stage 3 cuts every
parameter by itself, each part padded to the same length, and lays a rank's parts end to end. Which parameters there
are, in which order and of which shapes, `mp_rank_00_model_states.pt` says. Source: `deepspeed/utils/zero_to_fp32.py`,
`deepspeed/runtime/zero/stage_1_and_2.py`, `stage3.py` and `bf16_optimizer.py`.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from typing import NamedTuple

from jaynes_audit.analyzers.checkpoints.families import look_into
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.pytorch.constructing import LARGEST_RANK
from jaynes_audit.analyzers.checkpoints.pytorch.decoders import Chunk, Chunked, Strided
from jaynes_audit.analyzers.checkpoints.pytorch.objects import Record
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.checkpoints.training_state.memory import PARAMETERS, Group, Memory, key_text, memory_of
from jaynes_audit.analyzers.checkpoints.training_state.pickled import unpickled
from jaynes_audit.analyzers.checkpoints.training_state.saved import GROUPS, STATE, Saved
from jaynes_audit.analyzers.checkpoints.training_state.told import attributes, bad, count, mapping
from jaynes_audit.analyzers.dtypes import BITS

RANK = re.compile(r"(?:bf16_|fp16_)?zero_pp_rank_(?P<rank>\d{1,6})_mp_rank_(?P<slice>\d{2,6})_optim_states\.pt")
MODEL_STATES = ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_model_states.pt")
STAGE_OF_PARTS = 3
BITS_PER_BYTE = 8
ALIGNMENT = 2  # a group is padded to a multiple of this times the number of ranks
MEANS = ("exp_avg", "exp_avg_sq", "momentum_buffer")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rank:
    """What the file of one rank holds: of which stage, of how many ranks, and the memory of its parts."""

    stage: int
    ranks: int
    memory: Memory


class _Parameter(NamedTuple):
    """A parameter of a group, its shape, and how many numbers it has."""

    name: str
    shape: tuple[int, ...]
    size: int


def rank_files(folder: Place) -> list[str]:
    """The files of the ranks in a folder, by rank; empty where there are none."""
    matches = [match for match in map(RANK.fullmatch, look_into(folder).files) if match]
    return [match[0] for match in sorted(matches, key=lambda match: (int(match["slice"]), int(match["rank"])))]


def read_zero(folder: Place) -> Saved:
    """The optimizer whose parts lie in a folder, each parameter put together.

    Raises:
        RefusedFile: JN003 or JN005 when the files do not fit together, or were cut in another way too; and as
            `pickled.unpickled` does.
        CouldNotRead: when the machine does not let them be read.
    """
    names = rank_files(folder)
    if any(match["slice"].strip("0") for match in map(RANK.fullmatch, names) if match):
        raise bad("its tensors are cut for model parallelism, and such optimizers are not read", "zero-model-parallel")
    groups, steps, remarks = _read_model_states(folder)
    ranks = [_read_rank(folder / name) for name in names]
    first = ranks[0]
    if any((rank.stage, rank.ranks) != (first.stage, len(names)) for rank in ranks):
        raise bad(f"there are {len(names):,} files of ranks, and they speak of {first.ranks:,}", "zero-ranks")
    by_parts = first.stage == STAGE_OF_PARTS
    memory = _by_parts(groups, ranks) if by_parts else _by_rows(groups, ranks)
    return Saved(memory=memory, steps=steps, remarks=remarks)


def _read_model_states(folder: Place) -> tuple[list[list[_Parameter]], int | None, tuple[str, ...]]:
    """The parameters of each group, and how many updates were made."""
    names = look_into(folder).files
    name = next((name for name in MODEL_STATES if name in names), None)
    if name is None:
        raise bad(f"there is no {MODEL_STATES[0]} beside it, which says which parameters it holds", "zero-no-shapes")
    with unpickled(folder / name) as pickled:
        told = attributes(pickled.root)
        shapes = told.get("param_shapes")
        groups = [_parameters(group) for group in (shapes if isinstance(shapes, list) else [shapes])]
        named = [parameter.name for group in groups for parameter in group]
        if not named or len(set(named)) < len(named):
            raise bad(f"{quoted(name)} does not say which parameters there are, each once", "zero-no-shapes")
        return groups, count(pickled.leaves.number(told.get("global_steps"))), pickled.remarks


def _parameters(group: object) -> list[_Parameter]:
    found = []
    for name, shape in mapping(group).items():
        if not isinstance(name, str) or not isinstance(shape, tuple | list) or len(shape) > LARGEST_RANK:
            raise bad("it gives a parameter no name or no shape", "zero-shapes")
        sizes = tuple(size for size in map(count, shape) if size is not None)
        if len(sizes) != len(shape):
            raise bad(f"it gives the parameter {quoted(name)} no shape", "zero-shapes")
        if 0 in sizes:
            continue  # nothing of it is stored
        found.append(_Parameter(key_text(name), sizes, prod(sizes)))
    return found


def _read_rank(path: Place) -> _Rank:
    with unpickled(path) as pickled:
        told = mapping(attributes(pickled.root).get("optimizer_state_dict"))
        stage = told.get("zero_stage", 1)  # DeepSpeed's optimizer for bfloat16 cuts as stage 1 does, and says nothing
        match stage:
            case Record(arguments=(int(found),)):
                stage = found
        counts = told.get("partition_count")
        counted = [count(each) or 0 for each in (counts if isinstance(counts, list | tuple) else [counts])]
        base = told.get("optimizer_state_dict" if stage == STAGE_OF_PARTS else "base_optimizer_state")
        if isinstance(base, list) and all(isinstance(each, dict) for each in base):
            # The state of each group alone: its settings are not saved.
            base = {STATE: dict(enumerate(base)), GROUPS: [{PARAMETERS: [place]} for place in range(len(base))]}
        told_of = mapping(base)
        groups = told_of.get(GROUPS)
        if not isinstance(stage, int) or not isinstance(groups, list):
            raise bad(f"{quoted(path.name)} holds no optimizer as DeepSpeed since 0.3.17 saves it", "zero-layout")
        memory = memory_of(mapping(told_of.get(STATE)), groups, pickled.leaves)
        return _Rank(stage=stage, ranks=max(counted, default=0), memory=memory)


# ---- putting together


def _by_rows(groups: Sequence[Sequence[_Parameter]], ranks: Sequence[_Rank]) -> Memory:
    """Stages 1 and 2: each group is one row of numbers, cut into the parts of all ranks."""
    tensors: dict[str, dict[str, Tensor]] = {}
    _refuse_other_groups(groups, ranks[0])
    for place, parameters in enumerate(groups):
        for mean in MEANS:
            row = _Row([part for rank in ranks for part in _parts(rank, place, mean)])
            if not row.length:
                continue
            _refuse_other_length(parameters, row, ALIGNMENT * len(ranks))
            at = 0
            for parameter in parameters:
                pieces = row.pieces(at, at + parameter.size)
                tensors.setdefault(parameter.name, {})[mean] = _joined(parameter, mean, pieces)
                at += parameter.size
    return _memory(groups, ranks[0], tensors)


def _by_parts(groups: Sequence[Sequence[_Parameter]], ranks: Sequence[_Rank]) -> Memory:
    """Stage 3: each rank has a part of every parameter, the last ones filled up."""
    tensors: dict[str, dict[str, Tensor]] = {}
    places = range(len(ranks[0].memory.groups))
    for mean in MEANS:
        rows = [_Row([part for place in places for part in _parts(rank, place, mean)]) for rank in ranks]
        if not rows[0].length:
            continue
        at = 0
        for parameter in (each for group in groups for each in group):
            length = -(-parameter.size // len(ranks))
            pieces = []
            for rank, row in enumerate(rows):
                wanted = min(length, max(0, parameter.size - rank * length))
                pieces += row.pieces(at, at + wanted)
            tensors.setdefault(parameter.name, {})[mean] = _joined(parameter, mean, pieces)
            at += length
        if any(row.length != at for row in rows):
            raise bad(f"each rank should have {at:,} numbers, and one has {rows[0].length:,}", "zero-length")
    return _memory(groups, ranks[0], tensors)


def _parts(rank: _Rank, place: int, mean: str) -> Iterator[Tensor]:
    for key in _keys(rank.memory.groups, place):
        tensor = rank.memory.tensors.get(key, {}).get(mean)
        if tensor is not None:
            yield tensor


class _Piece(NamedTuple):
    """Elements `first` to `stop` of a row of numbers."""

    row: Tensor
    first: int
    stop: int


class _Row:
    """Tensors end to end, as one row of numbers."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._tensors = [tensor for tensor in tensors if prod(tensor.shape)]
        self._ends = list(accumulate(prod(tensor.shape) for tensor in self._tensors))

    @property
    def length(self) -> int:
        """How many numbers it has."""
        return self._ends[-1] if self._ends else 0

    def pieces(self, first: int, stop: int) -> list[_Piece]:
        """Where these numbers are. Raises RefusedFile when the row ends before them."""
        if stop > self.length:
            raise bad(f"it should have {stop:,} numbers at least, and has {self.length:,}", "zero-length")
        found = []
        at = bisect_right(self._ends, first)
        while first < stop:
            start = self._ends[at] - prod(self._tensors[at].shape)
            end = min(stop, self._ends[at])
            found.append(_Piece(self._tensors[at], first - start, end - start))
            first, at = end, at + 1
        return found


def _joined(parameter: _Parameter, mean: str, pieces: Sequence[_Piece]) -> Tensor:
    """The parameter whose numbers are these, end to end."""
    whole = replace(pieces[0].row, name=f"{parameter.name}.{mean}", shape=parameter.shape) if pieces else None
    if whole is None or any(piece.row.dtype is not whole.dtype for piece in pieces):
        raise bad(f"the parts of parameter {quoted(parameter.name)} do not fit each other", "zero-parts")
    element = BITS[whole.dtype] // BITS_PER_BYTE
    if len(pieces) == 1 and whole.decoder is None:
        [(row, first, stop)] = pieces
        return replace(whole, start=row.start + first * element, end=row.start + stop * element)
    ends = accumulate(piece.stop - piece.first for piece in pieces)
    chunks = tuple(
        Chunk(offsets=(end - (piece.stop - piece.first),), stored=_strided(piece, element))
        for end, piece in zip(ends, pieces, strict=True)
    )
    return replace(whole, decoder=Chunked(shape=(parameter.size,), chunks=chunks))


def _strided(piece: _Piece, element: int) -> Strided:
    row, first, stop = piece
    match row.decoder:
        case None:
            start = row.start + first * element
            return Strided(file=row.file, dtype=row.dtype, shape=(stop - first,), start=start, strides=(element,))
        case Strided(shape=(_,), strides=(stride,)) as stored:
            return replace(stored, shape=(stop - first,), start=stored.start + first * stride)
        case _:
            raise bad("its numbers lie in an odd order", "zero-parts")


def _memory(groups: Sequence[Sequence[_Parameter]], rank: _Rank, tensors: Mapping[str, Mapping[str, Tensor]]) -> Memory:
    """The memory of all parameters by name. Every part of a group has made as many updates."""
    told = rank.memory.groups
    steps: dict[str, int] = {}
    for place, parameters in enumerate(groups):
        made = [rank.memory.steps[key] for key in _keys(told, place) if key in rank.memory.steps]
        steps |= {parameter.name: made[0] for parameter in parameters if made}
    return Memory(
        groups=tuple(
            Group(
                keys=tuple(parameter.name for parameter in parameters),
                names=(),
                settings=told[place].settings if place < len(told) else {},
            )
            for place, parameters in enumerate(groups)
        ),
        tensors=tensors,
        steps=steps,
    )


def _keys(groups: Sequence[Group], place: int) -> tuple[str, ...]:
    return groups[place].keys if place < len(groups) else ()


def _refuse_other_groups(groups: Sequence[Sequence[_Parameter]], rank: _Rank) -> None:
    if len(groups) != len(rank.memory.groups):
        raise bad(
            f"its parameters are in {len(groups):,} groups, and the ranks' are in {len(rank.memory.groups):,}",
            "zero-groups",
        )


def _refuse_other_length(parameters: Sequence[_Parameter], row: _Row, alignment: int) -> None:
    """Refuse a row that is not as long as its parameters are together, but for the padding at its end."""
    wanted = sum(parameter.size for parameter in parameters)
    if -(-wanted // alignment) != -(-row.length // alignment):
        raise bad(f"its parameters have {wanted:,} numbers, and its parts have {row.length:,}", "zero-length")
