"""Rules about weights that occur twice in a model."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

from jaynes_audit.analyzers.audit import TIEABLE, Audit
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.layer_audit import LayerAudit
from jaynes_audit.analyzers.roles import KEPT, Role
from jaynes_audit.analyzers.roles.names import Leaf, parsed
from jaynes_audit.analyzers.rules.blocks import place_of, stacks_of
from jaynes_audit.analyzers.rules.rule import Level, Precision, model_rule
from jaynes_audit.analyzers.rules.thresholds import Thresholds

# Two matrices of so many weights, of which at least two magnitudes differ, are not alike by chance.
LEAST_WEIGHTS = 256
LEAST_DISTINCT = 3  # masks, signs and identities have fewer
LEAST_MATRICES = 2  # of a block, for all of it to be a copy
MOST_NAMED = 3

COMPUTED = KEPT | {Role.POSITION_EMBEDDING}  # tables of sines are alike in all blocks
INTEGER = re.compile("[0-9]+")
AN_EMBEDDING = re.compile(r"embed|(?<![a-z])emb(?![a-z])", re.IGNORECASE)  # in a name of no known role

Contents = tuple[tuple[str, str], ...]


@model_rule("JN108", "duplicate-tensor", Level.WARNING, precision=Precision.HIGH)
def duplicate_tensor(audit: Audit, _: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """A weight matrix holds the very weights of another one, and nothing says that the two are tied.

    Embeddings and heads may be one matrix; tables, masks and matrices of one value are not looked at; of blocks that
    are copies as a whole JN109 speaks. Matrices whose names differ in their numbers only are told together.

    Why it matters: one matrix was written over another, or the same one is stored, loaded and trained twice.
    What to do: compare both with the checkpoint before; if they are meant to be one, tie them.
    Example: layers.3.mlp.up_proj.weight: holds the very weights of 'layers.2.mlp.up_proj.weight'
    """
    told = {name for later, earlier in _repeated(audit) for block in (later, earlier) for name in block}
    pairs: defaultdict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    alike: dict[tuple[str, int, int], str] = {}
    for layer in _matrices(audit):
        if layer.name in told:
            continue
        first = alike.setdefault((layer.content, layer.rows, layer.columns), layer.name)
        if first != layer.name and not _are_tied_ends(first, layer.name):
            pairs[INTEGER.sub("#", first), INTEGER.sub("#", layer.name)].append((layer.name, first))
    for of_pattern in pairs.values():
        name, first = of_pattern[0]
        others = [name for name, _ in of_pattern[1:]]
        more = f"; {listed(others, most=MOST_NAMED)} likewise repeat a matrix" if others else ""
        yield name, f"holds the very weights of {quoted(first)}{more}"


@model_rule("JN109", "repeated-layer", Level.WARNING, precision=Precision.HIGH)
def repeated_layer(audit: Audit, _: Callable[[str], Thresholds]) -> Iterator[tuple[str, str]]:
    """All matrices of a block are those of another block.

    Why it matters: one block was written over another; the model still runs, and worse.
    What to do: export again. In a merge that repeats blocks on purpose, ignore the finding with that reason.
    Example: layers.3.mlp.down_proj.weight: all 7 matrices of block 3 of 'layers' are those of block 2
    """
    for later, earlier in _repeated(audit):
        copy, original = place_of(later[0]), place_of(earlier[0])
        if copy and original:
            told = f"all {len(later):,} matrices of block {copy.number:,} of {quoted(copy.stack)} are those of block "
            yield later[0], f"{told}{original.number:,}"


def _are_tied_ends(one: str, other: str) -> bool:
    """Whether these are an embedding and a head, whatever they are called: outside of all blocks, one named so."""
    names = (one, other)
    return not any(map(place_of, names)) and any(map(AN_EMBEDDING.search, names))


def _matrices(audit: Audit) -> Iterator[LayerAudit]:
    """The matrices of which no two should be alike, in the order of their names."""
    for layer in audit:
        counts = layer.counts
        is_matrix = layer.rows > 1 and layer.columns > 1 and counts.weights >= LEAST_WEIGHTS
        if not is_matrix or counts.distinct < LEAST_DISTINCT or layer.tied_to or layer.role in COMPUTED | TIEABLE:
            continue
        if layer.role is not Role.OTHER or parsed(layer.tensor)[0].leaf is not Leaf.PARAMETER:
            yield layer


def _repeated(audit: Audit) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    """The matrices of a block, and those of the first block of its stack that holds the same."""
    for blocks in stacks_of((layer.name, layer) for layer in _matrices(audit)).values():
        alike: dict[Contents, Mapping[str, LayerAudit]] = {}
        for block in blocks.values():
            contents = tuple(sorted((member, layer.content) for member, layer in block.items()))
            first = alike.setdefault(contents, block)
            if first is not block and len(block) >= LEAST_MATRICES:
                yield [layer.name for layer in block.values()], [layer.name for layer in first.values()]
