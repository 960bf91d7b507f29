"""Model -> model with one fault: what goes wrong when checkpoints are exported, merged, moved and cast.

Every fault has three sizes. What it hits is drawn, and everything else keeps its bytes.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.faults.files import shards_of
from benchmarks.faults.model import NUMPY_DTYPES, Block, Floats, Model, Stored, Tensors, matrices_of

QUERIES = re.compile(r"(.*\.)(q_proj|query|SelfAttention\.q|attn_q|c_attn|attn_qkv)\.weight")
OUTPUTS = re.compile(r"(o_proj|attention\.output\.dense|SelfAttention\.o|attn_output|attn\.c_proj)\.weight$")
EMBEDDING = re.compile(r"(embed_tokens|wte|word_embeddings|token_embd|shared|backbone\.embeddings)\.weight$")
HIGHEST_EXPONENT_BIT = {"F32": 0x40000000, "F16": 0x4000, "BF16": 0x4000, "F8_E4M3": 0x40}
UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32}
LARGEST_F16 = 65504.0
STALE_STEP = (1e-3, 1e-2, 1e-1)  # of the rms of a tensor, where no earlier step is known
LORA_RANK = 8
LORA_SHARE = 0.1  # of the norm of a matrix; the adapters that make_families.py merges have 0.07 to 0.66


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """What a fault makes of a model: other tensors, or a share of the bytes cut off a file.

    `named` are the tensors that a finding about it may name: those that changed, and those that lent their weights.
    """

    tensors: Tensors
    named: frozenset[str]
    cut: float = 0.0


@dataclass(frozen=True, slots=True)
class NotPossible:
    """Why a fault cannot happen to a model."""

    reason: str


Injection = Callable[[Model, int, np.random.Generator], Tensors | NotPossible]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that goes wrong, in three sizes from the smallest to the largest, each in words."""

    name: str
    sizes: tuple[str, str, str]
    inject: Injection


def damaged(model: Model, fault: Fault, size: int, rng: np.random.Generator) -> Damage | NotPossible:
    """Inject a fault, and say which tensors it changed."""
    if fault is TRUNCATED:
        return Damage(tensors=model.tensors, named=frozenset(model.tensors), cut=CUTS[size])
    tensors = fault.inject(model, size, rng)
    if isinstance(tensors, NotPossible):
        return tensors
    before = {(name, stored) for name, stored in model.tensors.items()}
    after = {(name, stored) for name, stored in tensors.items()}
    changed = {name for name, _ in before ^ after}
    if not changed:
        return NotPossible("nothing would change")
    lenders = {name for name, stored in before if name not in changed and _lent(stored, changed, tensors)}
    return Damage(tensors=tensors, named=frozenset(changed | lenders))


def _lent(stored: Stored, changed: Iterable[str], tensors: Tensors) -> bool:
    return any(name in tensors and tensors[name].data == stored.data for name in changed)


# ---- what is hit


NO_BLOCKS = NotPossible("it has no blocks")
NO_FLOATS = NotPossible("it has none in a format that can be computed with")
ONE_TO_ALL = ("one matrix", "all matrices of a block", "all matrices")
ONE_TO_BLOCK = ("one matrix", "all matrices of a block", "all tensors of a block")
BY_TENSOR = ("in a vector", "in a matrix", "in the largest tensor")


def _pick(rng: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(rng.integers(len(choices)))]


def _hidden(model: Model) -> list[str]:
    """Its matrices within blocks; all where it has no blocks."""
    within = [name for block in model.blocks for name, _ in matrices_of(block, model)]
    return within or list(model.matrices)


def _block(model: Model, rng: np.random.Generator) -> Block | None:
    blocks = model.blocks
    return blocks[int(rng.integers(len(blocks)))] if blocks else None


def _spread(model: Model, size: int, rng: np.random.Generator) -> list[str] | NotPossible:
    """The names that ONE_TO_ALL speaks of."""
    if size == 2:  # noqa: PLR2004 - the last of three
        return list(model.matrices)
    if size == 0:
        return [_pick(rng, _hidden(model))]
    block = _block(model, rng)
    return [name for name, _ in matrices_of(block, model)] if block else NO_BLOCKS


def _tensor(model: Model, size: int, rng: np.random.Generator) -> str | NotPossible:
    """The name that BY_TENSOR speaks of."""
    if size == 0:
        vectors = list(model.vectors)
        return _pick(rng, vectors) if vectors else NotPossible("it has no vectors")
    matrices = model.matrices
    return _pick(rng, _hidden(model)) if size == 1 else list(matrices)[-1]


def _by_rows(values: Floats) -> Floats:
    return values.reshape(len(values), -1)


def _each(change: Callable[[Stored], Stored]) -> Injection:
    """Change one matrix, a block's, or all."""

    def inject(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
        names = _spread(model, size, rng)
        if isinstance(names, NotPossible):
            return names
        return {**model.tensors, **{name: change(model.tensors[name]) for name in names}}

    return inject


# ---- one weight


def _one_weight(value: float) -> Injection:
    def inject(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
        name = _tensor(model, size, rng)
        if isinstance(name, NotPossible):
            return name
        stored = model.tensors[name]
        if np.isinf(value) and stored.dtype == "F8_E4M3":
            return NotPossible("its number format has no infinity")
        values = stored.values
        values.flat[int(rng.integers(values.size))] = value
        return {**model.tensors, name: stored.holding(values)}

    return inject


def _exponent_bit(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    name = _tensor(model, size, rng)
    if isinstance(name, NotPossible):
        return name
    stored = model.tensors[name]
    small = np.flatnonzero((np.abs(stored.values) < 2) & (stored.values != 0))  # noqa: PLR2004 - there the bit is 0
    if not small.size:
        return NotPossible("all its weights are zero")
    codes = _codes(stored).copy()
    codes[small[int(rng.integers(small.size))]] ^= codes.dtype.type(HIGHEST_EXPONENT_BIT[stored.dtype])
    return {**model.tensors, name: _with_codes(stored, codes)}


def _codes(stored: Stored) -> np.ndarray:
    return np.frombuffer(stored.data, UNSIGNED[np.dtype(NUMPY_DTYPES[stored.dtype]).itemsize])


def _with_codes(stored: Stored, codes: np.ndarray) -> Stored:
    return Stored(dtype=stored.dtype, shape=stored.shape, data=codes.tobytes())


# ---- zeros


def _zero_head(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    heads = model.heads
    queries = [name for name in model.tensors if QUERIES.fullmatch(name)]
    if not heads or not queries:
        return NotPossible("it has no attention heads")
    head = int(rng.integers(heads))
    if size == 2:  # noqa: PLR2004 - the last of three
        return {**model.tensors, **{name: _without_head(model.tensors[name], head, heads, name) for name in queries}}
    query = _pick(rng, queries)
    changed = {query: _without_head(model.tensors[query], head, heads, query)}
    if size == 1:
        block = next((each for each in model.blocks if query.startswith(each.prefix)), None)
        for name in block.names.values() if block else ():
            if OUTPUTS.search(name):
                stored = model.tensors[name]
                is_conv1d = name.endswith("c_proj.weight")
                changed[name] = _without_slice(stored, head, heads, axis=0 if is_conv1d else 1)
    return {**model.tensors, **changed}


def _without_head(stored: Stored, head: int, heads: int, name: str) -> Stored:
    if name.endswith("c_attn.weight"):  # columns; a third are queries
        return _without_slice(stored, head, 3 * heads, axis=1)
    return _without_slice(stored, head, 3 * heads if name.endswith("attn_qkv.weight") else heads, axis=0)


def _without_slice(stored: Stored, at: int, parts: int, *, axis: int) -> Stored:
    values = stored.values
    width = values.shape[axis] // parts
    picked = [slice(None)] * values.ndim
    picked[axis] = slice(at * width, (at + 1) * width)
    values[tuple(picked)] = 0
    return stored.holding(values)


ROW_SHARES = (1 / 32, 1 / 8, 1 / 2)


def _zero_rows(model: Model, size: int, rng: np.random.Generator) -> Tensors:
    name = _pick(rng, _hidden(model))
    values = model.tensors[name].values
    values[_run(len(values), ROW_SHARES[size], rng)] = 0
    return {**model.tensors, name: model.tensors[name].holding(values)}


def _run(length: int, share: float, rng: np.random.Generator) -> slice:
    count = max(1, round(share * length))
    start = int(rng.integers(length - count + 1))
    return slice(start, start + count)


def _zero_layer(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    names = _within_block(model, size, rng)
    if isinstance(names, NotPossible):
        return names
    return {**model.tensors, **{name: _zeros(model.tensors[name]) for name in names}}


def _zeros(stored: Stored) -> Stored:
    return Stored(dtype=stored.dtype, shape=stored.shape, data=bytes(len(stored.data)))


def _within_block(model: Model, size: int, rng: np.random.Generator) -> list[str] | NotPossible:
    """The names that ONE_TO_BLOCK speaks of."""
    if size < 2:  # noqa: PLR2004 - the last of three
        return _spread(model, size, rng)
    block = _block(model, rng)
    return list(block.names.values()) if block else NO_BLOCKS


FLUSHED_SHARES = (0.02, 0.1, 0.5)


def _flush(model: Model, size: int, rng: np.random.Generator) -> Tensors:
    name = _pick(rng, _hidden(model))
    values = model.tensors[name].values
    magnitudes = np.abs(values)
    values[magnitudes <= np.quantile(magnitudes, FLUSHED_SHARES[size])] = 0
    return {**model.tensors, name: model.tensors[name].holding(values)}


# ---- other weights


def _at_initialisation(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    if not model.trained:
        return NotPossible("all of it is at initialisation")
    if not model.initial:
        return NotPossible("its initialisation is not known")
    names = _within_block(model, size, rng)
    if isinstance(names, NotPossible):
        return names
    return {**model.tensors, **{name: model.initial[name] for name in names}}


def _stale_shard(model: Model, size: int, rng: np.random.Generator) -> Tensors:
    names = shards_of(list(model.tensors))[int(rng.integers(len(shards_of(list(model.tensors)))))]
    known = [*model.earlier[::-1], *([model.initial] if model.initial and model.trained else [])]
    if len(known) > size:
        return {**model.tensors, **{name: known[size][name] for name in names}}
    return {**model.tensors, **{name: _perturbed(model.tensors[name], STALE_STEP[size], rng) for name in names}}


def _perturbed(stored: Stored, share: float, rng: np.random.Generator) -> Stored:
    if not stored.is_float or stored.dtype == "F8_E4M3":
        return stored
    values = stored.values
    rms = float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))
    steps = rng.choice(np.float32([-1, 1]), values.shape)  # AdamW moves all weights by about the same
    return stored.holding(values + np.float32(share * rms) * steps)


def _pairs(model: Model, size: int, rng: np.random.Generator) -> list[tuple[str, str]] | NotPossible:
    """Tensors of the same member of two neighbouring blocks: of one matrix, of its module, of all there are."""
    blocks = model.blocks
    if not blocks:
        return NO_BLOCKS
    at = int(rng.integers(len(blocks) - 1))
    one, other = blocks[at], blocks[at + 1]
    alike = [
        (one.names[member], other.names[member])
        for member in one.names
        if member in other.names
        and model.tensors[one.names[member]].shape == model.tensors[other.names[member]].shape
        and model.tensors[one.names[member]].is_float
    ]
    matrices = [pair for pair in alike if model.tensors[pair[0]].is_matrix]
    if not matrices:
        return NotPossible("no two of its layers have one shape")
    chosen = matrices[int(rng.integers(len(matrices)))]
    if size == 0:
        return [chosen]
    module = chosen[0].removeprefix(one.prefix).split(".", maxsplit=1)[0]
    return [pair for pair in alike if pair[0].startswith(one.prefix + module)] if size == 1 else alike


def _swap(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    pairs = _pairs(model, size, rng)
    if isinstance(pairs, NotPossible):
        return pairs
    swapped = {one: model.tensors[other] for one, other in pairs} | {other: model.tensors[one] for one, other in pairs}
    return {**model.tensors, **swapped}


def _copy(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    pairs = _pairs(model, size, rng)
    if isinstance(pairs, NotPossible):
        return pairs
    return {**model.tensors, **{one: model.tensors[other] for one, other in pairs}}


def _merge_lora_again(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    chosen = {
        0: lambda: [_pick(rng, _hidden(model))],
        1: lambda: [name for name in model.tensors if QUERIES.fullmatch(name)],
        2: lambda: _hidden(model),
    }[size]()
    if not chosen:
        return NotPossible("it has no attention heads")
    if any(model.tensors[name].dtype == "F8_E4M3" for name in chosen):
        return NO_FLOATS
    return {**model.tensors, **{name: _with_lora(model.tensors[name], rng) for name in chosen}}


def _with_lora(stored: Stored, rng: np.random.Generator) -> Stored:
    values = _by_rows(stored.values)
    up, down = rng.normal(size=(len(values), LORA_RANK)), rng.normal(size=(LORA_RANK, values.shape[1]))
    change = up @ down
    scale = LORA_SHARE * np.linalg.norm(values) / np.linalg.norm(change)
    return stored.holding((values + scale * change).astype(np.float32).reshape(stored.shape))


GARBLED_SHARES = (0.0, 1 / 16, 1 / 4)


def _garble_embedding(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    name = next((name for name in model.tensors if EMBEDDING.search(name)), None)
    if name is None:
        return NotPossible("it has no embedding")
    stored = model.tensors[name]
    octets = np.frombuffer(stored.data, np.uint8).reshape(stored.shape[0], -1).copy()
    rows = _run(len(octets), GARBLED_SHARES[size], rng)
    octets[rows] = rng.integers(0, 256, octets[rows].shape, np.uint8)
    return {**model.tensors, name: Stored(dtype=stored.dtype, shape=stored.shape, data=octets.tobytes())}


# ---- the same weights, otherwise


PERMUTED_SHARES = (0.0, 1 / 8, 1.0)


def _permute_rows(model: Model, size: int, rng: np.random.Generator) -> Tensors:
    name = _pick(rng, _hidden(model))
    values = model.tensors[name].values
    rows = slice(0, 2) if size == 0 else _run(len(values), PERMUTED_SHARES[size], rng)
    if size == 0:
        values[[0, -1]] = values[[-1, 0]]
    else:
        values[rows] = rng.permutation(values[rows])
    return {**model.tensors, name: model.tensors[name].holding(values)}


def _transposed(stored: Stored) -> Stored:
    if len(stored.shape) != 2:  # noqa: PLR2004 - rows and columns
        return stored
    return stored.holding(stored.values.T)


def _scaled(factor: float) -> Callable[[Stored], Stored]:
    def scale(stored: Stored) -> Stored:
        return stored if stored.dtype == "F8_E4M3" else stored.holding(stored.values * np.float32(factor))

    return scale


def _signs_turned(stored: Stored) -> Stored:
    return stored.holding(-stored.values)


def _misread(stored: Stored) -> Stored:
    """The bytes of bfloat16, called float16."""
    if stored.dtype not in {"F16", "BF16"}:
        return stored
    return Stored(dtype="F16", shape=stored.shape, data=stored.cast("BF16").data)


def _byte_swapped(stored: Stored) -> Stored:
    return _with_codes(stored, _codes(stored).byteswap())


SATURATED_SHARES = (0.0, 1e-3, 1e-2)


def _saturate(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    name = _pick(rng, _hidden(model))
    stored = model.tensors[name]
    if stored.dtype != "F16":
        return NotPossible("it is not stored in float16")
    values = stored.values
    count = max(1, round(SATURATED_SHARES[size] * values.size))
    largest = np.argsort(np.abs(values), axis=None)[-count:]
    values.flat[largest] = np.copysign(np.float32(LARGEST_F16), values.flat[largest])
    return {**model.tensors, name: stored.holding(values)}


FP8_FACTORS = (2.0, 0.5, 16.0)


def _wrong_fp8_scale(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    scales = [name for name in model.tensors if name.endswith("weight_scale")]
    if not scales:
        return NotPossible("it has no FP8 scales")
    block = _block(model, rng)
    chosen = {
        0: [_pick(rng, scales)],
        1: [name for name in block.names.values() if name in scales] if block else [],
        2: scales,
    }[size]
    factor = np.float32(FP8_FACTORS[size])
    changed = {name: model.tensors[name].holding(model.tensors[name].values * factor) for name in chosen}
    return {**model.tensors, **changed}


# ---- other names


def _some(model: Model, size: int, rng: np.random.Generator) -> list[str] | NotPossible:
    """The names that VECTOR_TO_BLOCK speaks of."""
    if size == 2:  # noqa: PLR2004 - the last of three
        return _within_block(model, size, rng)
    of_blocks = {name for block in model.blocks for name in block.names.values()}
    kind = model.matrices if size else model.vectors
    found = [name for name in kind if name in of_blocks] or list(kind)
    return [_pick(rng, found)] if found else NotPossible("it has no vectors")


VECTOR_TO_BLOCK = ("one vector", "one matrix", "a block")


def _missing(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    names = _some(model, size, rng)
    if isinstance(names, NotPossible):
        return names
    return {name: stored for name, stored in model.tensors.items() if name not in names}


def _extra(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    names = _some(model, size, rng)
    if isinstance(names, NotPossible):
        return names
    added = {f"{name}_old": _reversed(model.tensors[name]) for name in names}
    if size == 2:  # noqa: PLR2004 - a whole block more, as if the network were deeper
        *_, last = model.blocks
        stack, number = re.fullmatch(r"(.*?)(\d+)\.", last.prefix).groups()
        prefix = f"{stack}{int(number) + 1}."
        added = {f"{prefix}{member}": _reversed(model.tensors[name]) for member, name in last.names.items()}
    return {**model.tensors, **added}


def _reversed(stored: Stored) -> Stored:
    """Weights that nobody else has, of the same law."""
    return stored.holding(np.flip(stored.values)) if stored.is_float else stored


def _renamed(model: Model, size: int, rng: np.random.Generator) -> Tensors | NotPossible:
    names = _some(model, size, rng)
    if isinstance(names, NotPossible):
        return names
    new = {name: f"{name.removesuffix('.weight')}_renamed.weight" for name in names}
    return {new.get(name, name): stored for name, stored in model.tensors.items()}


def _truncated(model: Model, _size: int, _rng: np.random.Generator) -> Tensors:
    return model.tensors


CUTS = (0.0, 0.1, 0.5)
TRUNCATED = Fault(name="truncated file", sizes=("by one byte", "by a tenth", "by half"), inject=_truncated)

FAULTS: tuple[Fault, ...] = (
    Fault(name="one NaN", sizes=BY_TENSOR, inject=_one_weight(float("nan"))),
    Fault(name="one Inf", sizes=BY_TENSOR, inject=_one_weight(float("inf"))),
    Fault(
        name="zeroed head",
        sizes=("its queries", "its queries and outputs", "its queries in all blocks"),
        inject=_zero_head,
    ),
    Fault(name="zeroed rows", sizes=("1/32 of a matrix", "1/8 of a matrix", "half a matrix"), inject=_zero_rows),
    Fault(name="zeroed layer", sizes=ONE_TO_BLOCK, inject=_zero_layer),
    Fault(name="layer at initialisation", sizes=ONE_TO_BLOCK, inject=_at_initialisation),
    Fault(name="two layers swapped", sizes=("one matrix", "a module", "a block"), inject=_swap),
    Fault(name="layer copied over another", sizes=("one matrix", "a module", "a block"), inject=_copy),
    Fault(name="rows permuted", sizes=("two rows", "1/8 of the rows", "all rows"), inject=_permute_rows),
    Fault(name="transposed", sizes=ONE_TO_ALL, inject=_each(_transposed)),
    Fault(name="scaled by 2", sizes=ONE_TO_ALL, inject=_each(_scaled(2.0))),
    Fault(name="scaled by 1.05", sizes=ONE_TO_ALL, inject=_each(_scaled(1.05))),
    Fault(name="scaled by 1/sqrt(2)", sizes=ONE_TO_ALL, inject=_each(_scaled(0.5**0.5))),
    Fault(name="sign flipped", sizes=ONE_TO_ALL, inject=_each(_signs_turned)),
    Fault(name="bf16 read as fp16", sizes=ONE_TO_ALL, inject=_each(_misread)),
    Fault(
        name="fp16 overflow saturated",
        sizes=("one weight", "0.1 % of a matrix", "1 % of a matrix"),
        inject=_saturate,
    ),
    Fault(name="flushed to zero", sizes=("2 % of a matrix", "10 % of a matrix", "half a matrix"), inject=_flush),
    Fault(
        name="wrong FP8 scale",
        sizes=("twice, one matrix", "half, a block", "16 times, all"),
        inject=_wrong_fp8_scale,
    ),
    Fault(
        name="stale shard",
        sizes=("one step, or 0.1 % of rms", "half the run, or 1 % of rms", "the initialisation, or 10 % of rms"),
        inject=_stale_shard,
    ),
    Fault(name="missing tensor", sizes=VECTOR_TO_BLOCK, inject=_missing),
    Fault(name="extra tensor", sizes=VECTOR_TO_BLOCK, inject=_extra),
    Fault(name="renamed tensor", sizes=VECTOR_TO_BLOCK, inject=_renamed),
    TRUNCATED,
    Fault(name="flipped exponent bit", sizes=BY_TENSOR, inject=_exponent_bit),
    Fault(
        name="LoRA merged twice",
        sizes=("one matrix", "queries of all blocks", "all matrices of all blocks"),
        inject=_merge_lora_again,
    ),
    Fault(
        name="embedding rows garbled",
        sizes=("one row", "1/16 of the rows", "1/4 of the rows"),
        inject=_garble_embedding,
    ),
    Fault(name="byte-swapped", sizes=ONE_TO_ALL, inject=_each(_byte_swapped)),
)
"""Everything that is injected, each at three sizes."""

PLAUSIBLE = frozenset(
    {
        *("two layers swapped", "rows permuted", "sign flipped", "stale shard", "LoRA merged twice"),
        *("scaled by 2", "scaled by 1.05", "scaled by 1/sqrt(2)"),
    }
)
"""Faults that leave weights which another training could have left: without knowing the model nothing is wrong."""
