"""`jaynes audit`: read checkpoints, fit every layer, say what was found."""

from jaynes_audit.cli import options
from jaynes_audit.cli.options import ColorChoice, IoChoice


def audit(
    targets: options.Targets,
    *,
    output: options.Outputs = ["table"],  # noqa: B006 - typer shows it, and nobody changes it
    layers: options.Layers = ["*"],  # noqa: B006
    exclude: options.Exclude = [],  # noqa: B006
    min_fan_in: options.MinFanIn = 64,
    min_weights: options.MinWeights = 10_000,
    jobs: options.Jobs = None,
    io: options.InputOutput = IoChoice.MMAP,
    every_layer: options.EveryLayer = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.Color = ColorChoice.AUTO,
    no_progress: options.NoProgress = False,
) -> int:
    """Report every layer's connection strengths, and what is wrong.

    Checkpoints are read, never run, and every weight is read once.

    Exit status: 0 nothing is an error, 1 findings at level error, 2 misused, 3 nothing to audit, 4 could not finish.
    """
    # Help does without NumPy, so nothing heavy is imported before it is needed.
    from jaynes_audit.analyzers.audit import Selection  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.layer_audit import Criterion  # noqa: PLC0415
    from jaynes_audit.cli import auditing, delivery  # noqa: PLC0415

    plan = delivery.plan(output, color, quiet=quiet, verbose=verbose, every_layer=every_layer)
    report = auditing.report_on(
        auditing.Request(
            targets=targets,
            selection=Selection(layers=layers, exclude=exclude),
            criterion=Criterion(min_fan_in=min_fan_in, min_weights=min_weights),
            jobs=jobs,
            io=Io(io.value),
            show_progress=not (quiet or no_progress),
        )
    )
    delivery.deliver(report, plan)
    return report.exit_code
