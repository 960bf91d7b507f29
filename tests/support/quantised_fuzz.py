"""Damaged quantised checkpoints, for `python -m tests.support.fuzzing quantised`.

Half of the damages keep the file a sound safetensors file, so that it is the recognition and the decoding that meet
them: tensors reshaped, renamed, resized, of another dtype, gone; settings and states that say something else.
"""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from math import prod

from jaynes_audit.analyzers.checkpoints.quantised import dequantised
from jaynes_audit.analyzers.checkpoints.safetensors_header import header_length, parse_header
from jaynes_audit.analyzers.checkpoints.tensor import WeightFile
from jaynes_audit.analyzers.dtypes import BITS, NOT_SAFETENSORS, Dtype
from jaynes_audit.analyzers.errors import RefusedFile
from tests.support.fuzzing import Damage, Fuzz, read_every_element
from tests.support.quantised_files import SMALL, MemoryPlace, Part, file_of, opened, small

SUFFIXES = (
    "weight",
    "weight_packed",
    "weight_scale",
    "weight_scale_inv",
    "weight_scale_2",
    "weight_global_scale",
    "weight_zero_point",
    "qweight",
    "weight_shape",
    "weight_g_idx",
    "qzeros",
    "scales",
    "g_idx",
    "up_blocks",
    "up_scales",
    "up.blocks",
    "up.scales",
    "SCB",
    "scale",
    "weight_format",
    "codes",
    "codebooks",
    "weight.absmax",
    "weight.quant_map",
    "weight.nested_absmax",
    "weight.nested_quant_map",
    "comfy_quant",
    "meta",
    "bias",
    "B",
    "s",
    "weight.quant_state.bitsandbytes__nf4",
    "weight.quant_state.bitsandbytes__fp4",
    "W_q",
    "trellis",
    "suh",
    "tables2",
)
KEYS = (
    "quant_method",
    "bits",
    "w_bit",
    "group_size",
    "weight_block_size",
    "block_structure",
    "config_groups",
    "version",
    "checkpoint_format",
    "shape",
    "blocksize",
    "nested_blocksize",
    "nested_offset",
    "quant_type",
    "num_bits",
    "weights",
)
VALUES: tuple[object, ...] = (
    *(
        0,
        1,
        2,
        3,
        4,
        5,
        7,
        8,
        13,
        16,
        32,
        64,
        128,
        -1,
        1 << 31,
        1 << 70,
        0.5,
        -0.0,
        1e300,
        None,
        True,
        "",
        "gptq",
        "awq",
    ),
    *(
        "compressed-tensors",
        "fp4",
        "nf4",
        "gptq",
        "gptq_v2",
        "hqq",
        [],
        [4, 4],
        [0, 4],
        [-1, 2],
        [1, 117],
        [9, 13],
        [[2]],
        {},
    ),
    *([1] * 40, {"g": {"weights": {"num_bits": 3}}}, {"g": {"weights": {"num_bits": 7}}}, {"g": 1}, "NaN", "\ud800"),
)
LONGEST_ROW = 1 << 12


def read(content: bytes) -> None:
    """Open a file, put its quantised weights together, and read everything."""
    try:
        checkpoint = opened(content)
    except (ValueError, RecursionError, AttributeError) as error:  # of the config.json, which is not on trial
        raise RefusedFile(str(error), rule="JN003", case="config") from error
    checkpoint = dequantised(replace(checkpoint, configs={"": _object(checkpoint.configs[""])}))
    for tensor in checkpoint.tensors:
        for span in tensor.needs(0, prod(tensor.shape) * BITS[tensor.dtype] // 8):
            assert 0 <= span.start <= span.end <= len(content)
    stored = sum(tensor.stored_bytes for tensor in checkpoint.tensors)
    assert stored == len(content) - 8 - header_length(content, len(content)), "a byte is counted twice, or not at all"
    place = MemoryPlace(content)
    read_every_element(WeightFile(file=place, tensors=checkpoint.tensors), content)


def _object(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


# ---- damages that leave a sound file

Change = Callable[[list[Part], dict[str, object], random.Random], None]


def _damage(change: Change) -> Damage:
    def damage(content: bytearray, dice: random.Random) -> None:
        try:
            parts, config = _taken_apart(bytes(content))
        except (RefusedFile, ValueError, RecursionError):
            return
        if parts:
            change(parts, config, dice)
            content[:] = file_of(list({each.name: each for each in parts}.values()), config)

    return damage


def _taken_apart(content: bytes) -> tuple[list[Part], dict[str, object]]:
    length = header_length(content, len(content))
    header = parse_header(content[8 : 8 + length], file=MemoryPlace(content), file_size=len(content))
    parts = [
        Part(tensor.name, str(tensor.dtype), tensor.shape, content[tensor.start : tensor.end])
        for tensor in sorted(header.tensors, key=lambda tensor: tensor.start)
    ]
    return parts, _object(json.loads(header.metadata.get("config", "{}")))


def _reshape(parts: list[Part], _: dict[str, object], dice: random.Random) -> None:
    """The same elements in another shape."""
    at = dice.randrange(len(parts))
    shape = list(parts[at].shape)
    match dice.randrange(4):
        case 0:
            shape.reverse()
        case 1 if len(shape) > 1:
            shape[-2:] = [shape[-2] * shape[-1]]
        case 2:
            shape.insert(dice.randrange(len(shape) + 1), 1)
        case _ if shape and shape[-1] % 2 == 0:
            shape[-1:] = [2, shape[-1] // 2]
    parts[at] = replace(parts[at], shape=tuple(shape))


def _redeclare(parts: list[Part], _: dict[str, object], dice: random.Random) -> None:
    """Another dtype of the same width."""
    at = dice.randrange(len(parts))
    bits = BITS[Dtype(parts[at].dtype)]
    same = [each for each in Dtype if BITS[each] == bits and each not in NOT_SAFETENSORS]
    parts[at] = replace(parts[at], dtype=str(dice.choice(same)))


def _resize(parts: list[Part], _: dict[str, object], dice: random.Random) -> None:
    """More or fewer of them along one axis."""
    at = dice.randrange(len(parts))
    shape = parts[at].shape
    if not shape or 0 in shape:
        return
    axis = dice.randrange(len(shape))
    size = dice.choice((0, 1, 2, shape[axis] - 1, shape[axis] + 1, 2 * shape[axis]))
    unit = len(parts[at].content) // shape[axis]
    if unit * size < LONGEST_ROW:
        content = (parts[at].content * 2)[: unit * size].ljust(unit * size, b"\1")
        parts[at] = replace(parts[at], shape=(*shape[:axis], size, *shape[axis + 1 :]), content=content)


def _rename(parts: list[Part], _: dict[str, object], dice: random.Random) -> None:
    """Another name."""
    at = dice.randrange(len(parts))
    base = dice.choice(("m.", "m.", "m.", "", "n."))
    parts[at] = replace(parts[at], name=base + dice.choice(SUFFIXES))


def _drop(parts: list[Part], _: dict[str, object], dice: random.Random) -> None:
    """One is gone."""
    if len(parts) > 1:
        del parts[dice.randrange(len(parts))]


def _add(parts: list[Part], _: dict[str, object], dice: random.Random) -> None:
    """One of another checkpoint is there too."""
    parts.append(dice.choice(SMALL[dice.choice(list(SMALL))][0]))


def _exchange(parts: list[Part], _: dict[str, object], dice: random.Random) -> None:
    """Two have each other's names."""
    one, other = dice.randrange(len(parts)), dice.randrange(len(parts))
    parts[one], parts[other] = replace(parts[one], name=parts[other].name), replace(parts[other], name=parts[one].name)


def _configure(_: list[Part], config: dict[str, object], dice: random.Random) -> None:
    """The settings say something else."""
    section = config.setdefault("quantization_config", {})
    if isinstance(section, dict):
        section[dice.choice(KEYS)] = dice.choice(VALUES)


def _restate(parts: list[Part], _: dict[str, object], dice: random.Random) -> None:
    """A state says something else."""
    for at, each in enumerate(parts):
        if "quant_state" in each.name:
            try:
                state = _object(json.loads(each.content))
            except (ValueError, RecursionError):
                continue
            text = json.dumps({**state, dice.choice(KEYS): dice.choice(VALUES)}).encode()
            parts[at] = replace(each, dtype="U8", shape=(len(text),), content=text)


def _renumber(parts: list[Part], _: dict[str, object], dice: random.Random) -> None:
    """A stored shape, or a list of groups, has another number."""
    for at, each in enumerate(parts):
        if each.dtype in {"I32", "I64"} and each.content and len(each.shape) == 1:
            width = BITS[Dtype(each.dtype)] // 8
            content = bytearray(each.content)
            place = width * dice.randrange(len(content) // width)
            number = dice.choice((0, 1, 3, 4, 5, 95, 97, -1, 1 << 30, -(1 << 31)))
            content[place : place + width] = number.to_bytes(width, "little", signed=True)
            parts[at] = replace(each, content=bytes(content))


CHANGES = (_reshape, _redeclare, _resize, _rename, _drop, _add, _exchange, _configure, _configure, _restate, _renumber)
FUZZ = Fuzz(
    corpus=lambda: [small(kind) for kind in SMALL], read=read, damages=tuple(_damage(change) for change in CHANGES)
)
