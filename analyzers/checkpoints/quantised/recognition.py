"""Checkpoint -> the same with each quantised weight as one tensor of numbers."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quantised.blockwise import claim_blockwise
from jaynes_audit.analyzers.checkpoints.quantised.claims import Claim, CodesOnly, Stored, require
from jaynes_audit.analyzers.checkpoints.quantised.integers import claim_compressed, claim_qweight
from jaynes_audit.analyzers.checkpoints.quantised.microscaled import claim_blocks, claim_modelopt, claim_packed_floats
from jaynes_audit.analyzers.checkpoints.quantised.scaled import claim_fp8, claim_int8
from jaynes_audit.analyzers.checkpoints.quantised.settings import Settings, settings_of
from jaynes_audit.analyzers.checkpoints.quantised.unknown import codes_without_scheme
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Tensor

CLAIMS: tuple[Callable[[Tensor, Stored], Claim | None], ...] = (
    claim_blockwise,
    claim_fp8,
    claim_int8,
    claim_blocks,
    claim_packed_floats,
    claim_modelopt,
    claim_compressed,
    claim_qweight,
)
"""The ways of storing quantised weights, in the order in which they are tried on a tensor."""

LARGEST_READ = 4096  # bytes of one tensor read at opening: a shape, or bitsandbytes' state, which takes about 200


def dequantised(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint, with the stored tensors that make up a quantised weight as one tensor of float32 numbers.

    It has the name and the shape that the weight had before, and stands where its codes stood. What holds codes and
    cannot be turned into numbers, for whatever reason, stays and is listed in `undecoded`, with all that belongs to
    it. Plain weights stay as they are, and so do FP8 weights without a scale. A few bytes of each weight are read,
    where only they tell its shape.

    Raises:
        CouldNotRead: when the machine or the server does not let those bytes be read.
    """
    stored = {tensor.name: tensor for tensor in checkpoint.tensors if tensor.name not in checkpoint.undecoded}
    claims = [claim for tensor in checkpoint.tensors if (claim := _claim(tensor, stored)) is not None]
    contents = _contents(claims)
    claimed = Counter(part.name for claim in claims for part in claim.parts.values())
    names = Counter(claim.name for claim in claims)
    names.update(tensor.name for tensor in checkpoint.tensors if tensor.name not in claimed)
    settings: dict[int, Settings] = {}
    weights: dict[str, Tensor] = {}
    undecoded: dict[str, str] = {}
    for claim in claims:
        config = checkpoint.config_of(claim.name)
        if id(config) not in settings:
            settings[id(config)] = settings_of(config)
        try:
            _require_plain(claim, names, claimed)
            weights[claim.codes.name] = claim.make(claim, settings[id(config)], contents)
        except CodesOnly as reason:
            undecoded.update({part.name: f"codes only: {reason}" for part in claim.parts.values()})
    left = {name: tensor for name, tensor in stored.items() if name not in claimed}
    undecoded.update(codes_without_scheme(left))
    return replace(
        checkpoint,
        tensors=tuple(_replaced(checkpoint.tensors, weights)),
        undecoded={**checkpoint.undecoded, **undecoded},
    )


def _claim(tensor: Tensor, stored: Stored) -> Claim | None:
    if tensor.name not in stored:
        return None
    return next((claim for claims in CLAIMS if (claim := claims(tensor, stored)) is not None), None)


def _contents(claims: Iterable[Claim]) -> dict[str, bytes]:
    """The bytes of the parts that decide about a weight's shape; nothing for one that is absurdly long."""
    of_file: dict[Place, list[Tensor]] = {}
    for claim in claims:
        for role in claim.reads:
            part = claim.parts.get(role)
            if part is not None and part.decoder is None:
                of_file.setdefault(part.file, []).append(part)
    contents: dict[str, bytes] = {}
    for file, parts in of_file.items():
        with opened(file) as (stream, _):
            for part in sorted(parts, key=lambda part: part.start):
                stream.seek(part.start)
                length = part.end - part.start
                contents[part.name] = stream.read(length) if length <= LARGEST_READ else b""
    return contents


def _require_plain(claim: Claim, taken: Counter[str], claimed: Mapping[str, int]) -> None:
    """Raise CodesOnly unless the parts are the claim's alone and lie in the file as they are."""
    parts = claim.parts.values()
    require(all(part.decoder is None for part in parts), "they are stored as views, or packed once more")
    require(all(claimed[part.name] == 1 for part in parts), "two ways of storing weights share their tensors")
    require(taken[claim.name] == 1, f"a tensor {quoted(claim.name)} is stored beside them")


def _replaced(tensors: Iterable[Tensor], weights: Mapping[str, Tensor]) -> Iterator[Tensor]:
    """The tensors, each weight in the place of its codes and in that of its other parts nothing."""
    parts = {part for weight in weights.values() if weight.decoder for part in weight.decoder.parts}
    for tensor in tensors:
        if tensor.name in weights:
            yield weights[tensor.name]
        elif tensor.name not in parts:
            yield tensor
