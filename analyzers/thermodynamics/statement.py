"""What an audit of a training run says: one claim of a theory, the figures, and whether it holds."""

from dataclasses import dataclass
from enum import StrEnum


class Answer(StrEnum):
    """Whether what a theory predicts is so. Nothing is said by default."""

    HOLDS = "holds"
    DOES_NOT_HOLD = "does not hold"
    CANNOT_BE_SAID = "cannot be said"


class Quantity(StrEnum):
    """What a statement is about, in the order of the report."""

    RUN_AGE = "run age"
    DECAY_HORIZON = "decay horizon"
    PREDICTED_RMS = "predicted rms"
    STATE_EQUATION = "equation of state"
    NOETHER = "Noether check"
    ADAMW_BALANCE = "AdamW balance"
    SGD_BALANCE = "SGD balance"
    CHARGES = "charges"
    LORA_BALANCE = "LoRA balance"
    INERT = "inert parameters"
    INITIALISATION = "initialisation"
    ASPECT_RATIO = "aspect ratio"
    ENTROPIC_TERM = "entropic term"
    NORM_FLUX = "norm flux"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with the name and the unit that it is shown with; `unit` is empty for a ratio or a count."""

    name: str
    value: float
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One line of the report.

    `subject` is what it is about: "the run", a block's pair ("block 3, up/down"), a tensor. `claim` is what the theory
    predicts, in a few words. `because` says in one sentence how the figures led to the answer. `missing` names the
    inputs without which nothing can be said; it is empty where something is said.
    """

    quantity: Quantity
    subject: str
    claim: str
    figures: tuple[Figure, ...]
    answer: Answer
    because: str
    missing: tuple[str, ...] = ()


def cannot_be_said(
    quantity: Quantity, subject: str, claim: str, *, because: str, missing: tuple[str, ...] = ()
) -> Statement:
    """Make the statement that nothing can be said, which needs no figures."""
    return Statement(
        quantity=quantity,
        subject=subject,
        claim=claim,
        figures=(),
        answer=Answer.CANNOT_BE_SAID,
        because=because,
        missing=missing,
    )
