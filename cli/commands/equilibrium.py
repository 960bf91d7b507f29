"""`jaynes equilibrium`: what the training of a checkpoint shows in its weights."""

from enum import StrEnum
from typing import Annotated

import typer

from jaynes_audit.cli import options
from jaynes_audit.cli.messages import say
from jaynes_audit.cli.options import ColorChoice, IoChoice


class MethodChoice(StrEnum):
    """The optimizers that laws are known for; `Method` has all that can be told from files."""

    ADAMW = "adamw"
    SGD = "sgd"


Checkpoints = Annotated[
    list[str],
    typer.Argument(
        metavar="CHECKPOINT...",
        help="Checkpoints with what their trainer left beside them: folders, files, org/name[@rev], hf://...",
        show_default=False,
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option("--lr", metavar="RATE", help="The highest learning rate of the run.", show_default=False),
]
WeightDecay = Annotated[
    float | None,
    typer.Option("--weight-decay", metavar="DECAY", help="As given to the optimizer.", show_default=False),
]
ScheduleOption = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        metavar="SHAPE[:FINAL][@STEPS]",
        help="constant, linear or cosine; FINAL is the last rate over the highest, STEPS where it ends: cosine:0.1.",
        show_default=False,
    ),
]
Warmup = Annotated[
    float | None,
    typer.Option(
        "--warmup", metavar="N", help="Steps of linear warm-up, or below 1 a share of all.", show_default=False
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", min=0, metavar="N", help="Steps so far.", show_default=False)]
OptimizerOption = Annotated[
    MethodChoice | None,
    typer.Option("--optimizer", help="How it was trained, where no file tells.", show_default=False),
]
Initial = Annotated[
    str | None,
    typer.Option(
        "--initial", metavar="CHECKPOINT", help="The same model before training, for its scales.", show_default=False
    ),
]
Earlier = Annotated[
    str | None,
    typer.Option(
        "--earlier", metavar="CHECKPOINT", help="An earlier checkpoint of the same run, for drifts.", show_default=False
    ),
]


def equilibrium(
    checkpoints: Checkpoints,
    *,
    output: options.TrainingOutputs = ["table"],  # noqa: B006 - typer shows it, and nobody changes it
    lr: LearningRate = None,
    weight_decay: WeightDecay = None,
    schedule: ScheduleOption = None,
    warmup: Warmup = None,
    steps: Steps = None,
    optimizer: OptimizerOption = None,
    initial: Initial = None,
    earlier: Earlier = None,
    jobs: options.Jobs = None,
    io: options.InputOutput = IoChoice.MMAP,
    stream: options.Stream = None,
    every_layer: options.EveryLayer = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.Color = ColorChoice.AUTO,
    no_progress: options.NoProgress = False,
) -> int:
    """Say what learning rates, weight decay and symmetries of a training run show in one of its checkpoints.

    Every line is a claim that holds, does not hold, or cannot be said. Learning rates and optimizer states are looked
    for beside the weights; --lr and the like give what no file tells.

    Exit status: 0 said, 2 misused, 3 nothing to audit, 4 could not finish.
    """
    # Help does without NumPy, so nothing heavy is imported before it is needed.
    from jaynes_audit.analyzers.checkpoints import HubAccess  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.training_state.given import Given  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.training_state.state import Method  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.cli import delivery, training  # noqa: PLC0415
    from jaynes_audit.cli.reports.trainings import TRAININGS  # noqa: PLC0415

    methods = {MethodChoice.ADAMW: Method.ADAMW, MethodChoice.SGD: Method.SGD}
    plan = delivery.plan(output, TRAININGS, color, quiet=quiet, verbose=verbose, every_layer=every_layer)
    report = training.report_on(
        training.Request(
            targets=checkpoints,
            given=Given(
                learning_rate=lr,
                weight_decay=weight_decay,
                schedule=schedule,
                warmup=warmup,
                steps=steps,
                method=methods[optimizer] if optimizer is not None else None,
            ),
            initial=initial,
            earlier=earlier,
            jobs=jobs,
            io=Io(io.value),
            access=HubAccess(mode=options.mode_of(stream=stream), tell=say),
            show_progress=not (quiet or no_progress),
        )
    )
    delivery.deliver(report, plan, TRAININGS)
    return report.exit_code
