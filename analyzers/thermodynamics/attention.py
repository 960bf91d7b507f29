"""The attention of a block -> its symmetries: values against the output, queries against keys."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from jaynes_audit.analyzers.chunks import Layer
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.settings import heads, whole
from jaynes_audit.analyzers.roles.slots import KEYS, QUERIES, slot_of
from jaynes_audit.analyzers.thermodynamics.architectures import HeadNorm, Rotation
from jaynes_audit.analyzers.thermodynamics.blocks import Block
from jaynes_audit.analyzers.thermodynamics.symmetry import NO_CHANNEL, Axis, Channels, Symmetry, SymmetryKind, Term
from jaynes_audit.analyzers.thermodynamics.terms import inputs_of, outputs_of, with_bias

Attention = tuple[Role, Role, Role, Role]
ATTENTIONS: tuple[tuple[str, Attention], ...] = (
    ("", (Role.ATTENTION_Q, Role.ATTENTION_K, Role.ATTENTION_V, Role.ATTENTION_O)),
    (
        "cross-attention ",
        (Role.CROSS_ATTENTION_Q, Role.CROSS_ATTENTION_K, Role.CROSS_ATTENTION_V, Role.CROSS_ATTENTION_O),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heads:
    """How many heads queries and keys are cut into, of `size` entries each; several query heads may share a key."""

    query: int
    key: int
    size: int

    def of_queries(self, within: Channels, per_head: int) -> Channels:
        """The channel of every query entry, given that of each entry within a head."""
        return _spread(np.arange(self.query) // (self.query // self.key), within, per_head)

    def of_keys(self, within: Channels, per_head: int) -> Channels:
        """The channel of every entry of a key."""
        return _spread(np.arange(self.key), within, per_head)


def _spread(groups: Channels, within: Channels, per_head: int) -> Channels:
    channels = groups[:, np.newaxis] * per_head + within
    return np.where(within == NO_CHANNEL, NO_CHANNEL, channels).ravel()


def attention_symmetries(block: Block) -> Iterator[Symmetry]:
    """List the symmetries of a block's attention, to its own sequence and to another."""
    for prefix, roles in ATTENTIONS:
        yield from _of_attention(block, prefix, roles)


def _of_attention(block: Block, prefix: str, roles: Attention) -> Iterator[Symmetry]:
    query, key, value, out = (block.only(role) for role in roles)
    if query is None or key is None or value is None or out is None:
        return
    cut = _heads(block, query, key)
    if cut is None:
        return
    values, outs = outputs_of(value), inputs_of(out)
    if values == cut.key * cut.size and outs == cut.query * cut.size:
        every = np.arange(cut.size)
        yield Symmetry(
            kind=SymmetryKind.VALUE_OUTPUT,
            subject=f"{block.subject}, {prefix}value/output",
            depth=block.depth,
            channels=values,
            plus=with_bias(value, block.biases),
            minus=(Term(layer=out.name, axis=Axis.INPUTS, channels=cut.of_queries(every, cut.size)),),
        )
    yield from _queries_and_keys(block, prefix, cut, query, key)


def _heads(block: Block, query: Layer, key: Layer) -> _Heads | None:
    number = heads(block.settings)
    size, rest = divmod(outputs_of(query), max(1, number))
    key_heads, left = divmod(outputs_of(key), max(1, size))
    if not (number and size and key_heads) or rest or left or number % key_heads:
        return None
    return _Heads(query=number, key=key_heads, size=size)


def _queries_and_keys(block: Block, prefix: str, cut: _Heads, query: Layer, key: Layer) -> Iterator[Symmetry]:
    normed = _has_norm(block)
    if block.architecture.head_norm is not HeadNorm.NONE:
        if normed:
            yield from (
                _under_norm(block, f"{prefix}{what} under their norm", layer, number)
                for what, layer, number in (("queries", query, cut.query), ("keys", key, cut.key))
            )
        return
    if normed:
        return
    rotated = 0 if prefix else _rotated(block, cut.size)
    half, odd = divmod(rotated, 2)
    if odd:
        return
    entries = np.arange(cut.size)
    pairs = entries // 2 if block.architecture.rotation is Rotation.NEIGHBOURS else entries % max(1, half)
    subject = f"{block.subject}, {prefix}query/key"
    if rotated:
        within = np.where(entries < rotated, pairs, NO_CHANNEL)
        yield _pair(block, SymmetryKind.QUERY_KEY_ROTARY, subject, (query, key), cut=cut, within=within)
    if rotated < cut.size:
        rest = np.where(entries < rotated, NO_CHANNEL, entries - rotated)
        unrotated = f"{subject}, not rotated" if rotated else subject
        yield _pair(block, SymmetryKind.QUERY_KEY, unrotated, (query, key), cut=cut, within=rest)


def _pair(
    block: Block,
    kind: SymmetryKind,
    subject: str,
    layers: tuple[Layer, Layer],
    *,
    cut: _Heads,
    within: Channels,
) -> Symmetry:
    query, key = layers
    per_head = int(within.max()) + 1
    return Symmetry(
        kind=kind,
        subject=subject,
        depth=block.depth,
        channels=cut.key * per_head,
        plus=with_bias(query, block.biases, cut.of_queries(within, per_head)),
        minus=with_bias(key, block.biases, cut.of_keys(within, per_head)),
    )


def _under_norm(block: Block, what: str, layer: Layer, number: int) -> Symmetry:
    entries = outputs_of(layer)
    groups = number if block.architecture.head_norm is HeadNorm.EACH else 1
    return Symmetry(
        kind=SymmetryKind.QUERY_KEY_NORM,
        subject=f"{block.subject}, {what}",
        depth=block.depth,
        channels=groups,
        plus=with_bias(layer, block.biases, np.arange(entries) // (entries // groups)),
    )


def _has_norm(block: Block) -> bool:
    """Whether a norm of the block stands on its queries or its keys."""
    slots = (slot_of(gain.name, Role.NORM, inside=True) for gain in block.layers.get(Role.NORM, ()))
    return any(slot.kinds[0] in {QUERIES, KEYS} for slot in slots)


def _rotated(block: Block, size: int) -> int:
    """How many entries of a head are rotated."""
    if block.architecture.rotation is Rotation.NONE:
        return 0
    architecture = block.architecture
    if architecture.rotated_share == 1 and not architecture.may_rotate_a_share:
        return size  # whatever the settings say, which such a network does not read
    if entries := whole(block.settings, "rotary_dim"):
        return min(entries, size)
    nested = block.settings.get("rope_parameters")
    for settings in (block.settings, nested if isinstance(nested, Mapping) else {}):
        for key in ("partial_rotary_factor", "rotary_pct"):
            share = settings.get(key)
            if isinstance(share, int | float) and 0 < share <= 1:
                return int(size * share)
    return int(size * block.architecture.rotated_share)
