"""What the two factors of low-rank adapters tell of their training, beside the way they begin."""

from collections.abc import Iterator
from math import sqrt

import numpy as np

from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer, chunks
from jaynes_audit.analyzers.dtypes import COMPLEX, FLOATS, values
from jaynes_audit.analyzers.errors import RefusedFile
from jaynes_audit.analyzers.thermodynamics.ages import unknown
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement
from jaynes_audit.analyzers.thermodynamics.sums import Density
from jaynes_audit.analyzers.thermodynamics.symmetry import Symmetry, SymmetryKind

CLAIM = "the adapter was trained: its factor B has left zero, and A the range that it begins in"
START = "the range that A began in (init_lora_weights of adapter_config.json is not PEFT's default)"

ROUNDED = 1 + 2**-7  # a weight at the bound may be stored as the next bfloat16
FIRST_FACTOR = ".lora_A"  # drawn at random, and its partner begins at zero: of `lora_embedding_A` neither is so


def share_beyond(layer: Layer, sources: Sources) -> float | None:
    """The share of a layer's weights that are larger than 1/sqrt(inputs), which PEFT draws the first factors within.

    PEFT calls PyTorch's `kaiming_uniform_(a=sqrt(5))`: uniform between both signs of 1/sqrt(inputs), so of mean square
    1/(3 inputs). None for what has no inputs or cannot be read. A row of chunks is held at a time.

    Raises:
        CouldNotRead: when the system or the server reports an error.
    """
    tensor, inputs = layer.tensor, layer.part.fan_in
    if not inputs or tensor.dtype not in FLOATS or tensor.dtype in COMPLEX or 0 in tensor.shape:
        return None
    bound = ROUNDED / sqrt(inputs)
    beyond = 0
    try:
        for stored in chunks(sources.of(tensor), layer, first_row=0, stop_row=layer.extent.rows):
            beyond += int(np.count_nonzero(np.abs(values(stored, tensor.dtype)) > bound))
    except RefusedFile:
        return None
    return beyond / (layer.extent.rows * layer.extent.columns)


def lora_statements(evidence: Evidence) -> Iterator[Statement]:
    """Say of each adapter whether it does anything, and whether its first factor was trained."""
    for symmetry in evidence.symmetries:
        if symmetry.kind is SymmetryKind.LORA and FIRST_FACTOR in symmetry.minus[0].layer:
            first, second = (evidence.parameters.get(terms[0].layer) for terms in (symmetry.minus, symmetry.plus))
            if first is not None and second is not None:
                yield _of_adapter(evidence, symmetry, first, second)


def _of_adapter(evidence: Evidence, symmetry: Symmetry, first: Parameter, second: Parameter) -> Statement:
    rank = symmetry.channels
    squares = [each.sums.total(Density.SQUARE) / rank for each in (first, second)]
    figures = [
        Figure(name="rank", value=rank),
        Figure(name="|A|^2 / rank", value=squares[0]),
        Figure(name="|B|^2 / rank", value=squares[1]),
    ]
    share = first.share_beyond
    if share is not None:
        figures.append(Figure(name="entries beyond the start", value=100 * share, unit="%"))
    answer, because, missing = _answer(evidence, share, second_factor=squares[1])
    return Statement(
        quantity=Quantity.LORA_BALANCE,
        subject=symmetry.subject,
        claim=CLAIM,
        figures=tuple(figures),
        answer=answer,
        because=because,
        missing=missing,
    )


def _answer(evidence: Evidence, share: float | None, *, second_factor: float) -> tuple[Answer, str, tuple[str, ...]]:
    if second_factor == 0:
        return Answer.DOES_NOT_HOLD, "B is all zeros, so the adapter does nothing", ()
    if evidence.config.get("init_lora_weights", True) is not True:
        return Answer.CANNOT_BE_SAID, unknown((START,)), (START,)
    if share is None:
        return Answer.CANNOT_BE_SAID, "the entries of A could not be counted", ()
    if share > 0:
        because = f"{share:.2%} of A lie beyond 1/sqrt(inputs), where PEFT's default start ends; B is not zero"
        return Answer.HOLDS, because, ()
    because = "B is not zero, but no entry of A lies beyond where PEFT's default start ends: it moved little, or not"
    return Answer.CANNOT_BE_SAID, because, ()
