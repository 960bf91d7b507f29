"""What `jaynes equilibrium` says: a checkpoint, its training, and every claim that was held against both."""

import math
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from jaynes_audit.analyzers.checkpoints.training_state.state import OptimizerState, TrainingState
from jaynes_audit.analyzers.record.report import JSON_SCHEMA, FailureRecord, Tool
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.analyzers.thermodynamics.equilibrium import TrainingAudit
from jaynes_audit.analyzers.thermodynamics.evidence import Pairing
from jaynes_audit.analyzers.thermodynamics.statement import Figure, Quantity, Statement

FORMAT: Literal["jaynes-equilibrium/1"] = "jaynes-equilibrium/1"

AnswerName = Literal["holds", "does not hold", "cannot be said"]


class FigureRecord(Struct, frozen=True, kw_only=True):
    """A number that an answer rests on."""

    name: Annotated[str, Meta(description="What it is.")]
    value: Annotated[float | None, Meta(description="Its value; null where it is not a finite number.")]
    unit: Annotated[str, Meta(description="Its unit; empty for a ratio or a count.")]


class StatementRecord(Struct, frozen=True, kw_only=True):
    """One claim of a theory about this checkpoint, and whether it holds."""

    quantity: Annotated[str, Meta(description=f"One of {', '.join(Quantity)}.")]
    subject: Annotated[str, Meta(description="What it is about: the run, a block's pair, a tensor.")]
    claim: Annotated[str, Meta(description="What the theory predicts.")]
    figures: Annotated[list[FigureRecord], Meta(description="What was measured.")]
    answer: Annotated[AnswerName, Meta(description="Whether it is so.")]
    because: Annotated[str, Meta(description="How the figures led to the answer.")]
    missing: Annotated[list[str], Meta(description="Inputs without which nothing can be said.")]


class GroupRecord(Struct, frozen=True, kw_only=True):
    """Settings of parameters that the optimizer treats alike. Null is what no file tells."""

    parameters: Annotated[int, Meta(description="Parameters in it.")]
    learning_rate: Annotated[float | None, Meta(description="Learning rate when the checkpoint was saved.")]
    initial_learning_rate: Annotated[float | None, Meta(description="The rate that the schedule scales.")]
    weight_decay: Annotated[float | None, Meta(description="Weight decay, as given to the optimizer.")]
    beta1: Annotated[float | None, Meta(description="Decay rate of the mean of gradients.")]
    beta2: Annotated[float | None, Meta(description="Decay rate of the mean of squared gradients.")]
    epsilon: Annotated[float | None, Meta(description="What is added to the root of that mean.")]
    momentum: Annotated[float | None, Meta(description="SGD's momentum.")]


class OptimizerRecord(Struct, frozen=True, kw_only=True):
    """The optimizer's state, and which tensors it belongs to."""

    method: Annotated[str, Meta(description="AdamW, SGD and so on, or unknown.")]
    evidence: Annotated[str, Meta(description="How that was told.")]
    groups: Annotated[list[GroupRecord], Meta(description="Its groups of parameters, in their order.")]
    paired: Annotated[int, Meta(description="Parameters whose tensor was found.")]
    pairing: Annotated[str, Meta(description="How parameters and tensors were paired.")]
    pairing_is_certain: Annotated[bool, Meta(description="False while only shapes speak for it.")]
    unpaired: Annotated[list[str], Meta(description="Parameters and tensors without a partner.")]


class TrainingRecord(Struct, frozen=True, kw_only=True):
    """What is known of the training. Null is what no file tells and nobody gave."""

    files: Annotated[list[str], Meta(description="The trainer's files that were read.")]
    steps: Annotated[int | None, Meta(description="Updates of the weights so far.")]
    planned_steps: Annotated[int | None, Meta(description="Updates that the whole run was to have.")]
    steps_per_epoch: Annotated[float | None, Meta(description="Updates that see all data once.")]
    batch_size: Annotated[int | None, Meta(description="Samples in one update.")]
    loss: Annotated[float | None, Meta(description="Training loss that was logged last, in nats.")]
    weight_decay: Annotated[float | None, Meta(description="Weight decay of the trainer's arguments, or as given.")]
    learning_rate: Annotated[float | None, Meta(description="Learning rate of the last step.")]
    peak_learning_rate: Annotated[float | None, Meta(description="Greatest learning rate so far.")]
    logged_rates: Annotated[int | None, Meta(description="How many of the learning rates were written down.")]
    history: Annotated[str | None, Meta(description="Where the learning rates come from.")]
    optimizer: Annotated[OptimizerRecord | None, Meta(description="The optimizer's state; null: there is none.")]
    refused: Annotated[list[str], Meta(description="Files that were not understood, each in one sentence.")]


class TrainingAuditRecord(Struct, frozen=True, kw_only=True):
    """One checkpoint of a training run."""

    target: Annotated[str, Meta(description="The checkpoint, as it was named.")]
    commit: Annotated[str | None, Meta(description="The Hub's name of the version; null for a local one.")]
    layers: Annotated[int, Meta(description="Layers that were measured.")]
    unread: Annotated[list[str], Meta(description="Layers that could not be measured, each with the reason.")]
    training: Annotated[TrainingRecord, Meta(description="What is known of its training.")]
    statements: Annotated[list[StatementRecord], Meta(description="Every claim, in the order of the quantities.")]
    remarks: Annotated[list[str], Meta(description="What a reader should know.")]


class TrainingReportRecord(Struct, frozen=True, kw_only=True):
    """What one run of `jaynes equilibrium` found."""

    format: Annotated[Literal["jaynes-equilibrium/1"], Meta(description="Name and version of this shape.")] = FORMAT
    tool: Annotated[Tool, Meta(description="What wrote it.")]
    checkpoints: Annotated[list[TrainingAuditRecord], Meta(description="The checkpoints that were read.")]
    failures: Annotated[list[FailureRecord], Meta(description="What could not be read.")]
    exit_code: Annotated[int, Meta(description="The exit status.")]
    exit_reason: Annotated[str, Meta(description="Why.")]


def training_audit_record(audit: TrainingAudit) -> TrainingAuditRecord:
    """Record what was said of a checkpoint and its training."""
    return TrainingAuditRecord(
        target=text(audit.target),
        commit=audit.commit or None,
        layers=audit.layers,
        unread=[text(f"{name}: {reason}") for name, reason in audit.unread.items()],
        training=_training(audit.training, audit.pairing),
        statements=[_statement(each) for each in audit.statements],
        remarks=[text(each) for each in audit.remarks],
    )


def equilibrium_schema() -> dict[str, object]:
    """The JSON Schema (2020-12) of the report."""
    return {
        "$schema": JSON_SCHEMA,
        "title": FORMAT,
        "description": "A report of `jaynes equilibrium`: what the training of a checkpoint shows in its weights.",
        **msgspec.json.schema(TrainingReportRecord),
    }


def _statement(statement: Statement) -> StatementRecord:
    return StatementRecord(
        quantity=statement.quantity.value,
        subject=text(statement.subject),
        claim=text(statement.claim),
        figures=[_figure(each) for each in statement.figures],
        answer=statement.answer.value,
        because=text(statement.because),
        missing=[text(each) for each in statement.missing],
    )


def _figure(figure: Figure) -> FigureRecord:
    return FigureRecord(name=text(figure.name), value=_finite(figure.value), unit=figure.unit)


def _training(training: TrainingState, pairing: Pairing) -> TrainingRecord:
    history = training.history
    rates = history.learning_rates if history is not None and len(history.learning_rates) else None
    return TrainingRecord(
        files=[text(each) for each in training.files],
        steps=training.steps,
        planned_steps=training.planned_steps,
        steps_per_epoch=_finite(training.steps_per_epoch),
        batch_size=training.batch_size,
        loss=_finite(training.loss),
        weight_decay=_finite(training.weight_decay),
        learning_rate=None if rates is None else _finite(float(rates[-1])),
        peak_learning_rate=None if rates is None else _finite(float(rates.max())),
        logged_rates=history.logged if history else None,
        history=text(history.source) if history else None,
        optimizer=_optimizer(training.optimizer, pairing) if training.optimizer else None,
        refused=[text(each) for each in training.refused],
    )


def _optimizer(optimizer: OptimizerState, pairing: Pairing) -> OptimizerRecord:
    return OptimizerRecord(
        method=optimizer.method.value,
        evidence=text(optimizer.evidence),
        groups=[
            GroupRecord(
                parameters=sum(each.group == number for each in optimizer.parameters),
                learning_rate=_finite(group.learning_rate),
                initial_learning_rate=_finite(group.initial_learning_rate),
                weight_decay=_finite(group.weight_decay),
                beta1=_finite(group.beta1),
                beta2=_finite(group.beta2),
                epsilon=_finite(group.epsilon),
                momentum=_finite(group.momentum),
            )
            for number, group in enumerate(optimizer.groups)
        ],
        paired=len(pairing.keys),
        pairing=text(pairing.evidence),
        pairing_is_certain=pairing.is_certain,
        unpaired=[text(each) for each in pairing.unpaired],
    )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None
