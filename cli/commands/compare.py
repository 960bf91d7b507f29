"""`jaynes compare`: two or more models side by side."""

from jaynes_audit.cli import options
from jaynes_audit.cli.exit_codes import FailOn
from jaynes_audit.cli.messages import say
from jaynes_audit.cli.options import ColorChoice, IoChoice


def compare(
    operands: options.Operands,
    *,
    output: options.Outputs = ["table"],  # noqa: B006 - typer shows it, and nobody changes it
    exact: options.ExactOption = None,
    fail_on: options.FailOnOption = FailOn.NEVER,
    layers: options.Layers = ["*"],  # noqa: B006
    exclude: options.Exclude = [],  # noqa: B006
    min_fan_in: options.MinFanIn = 64,
    min_weights: options.MinWeights = 10_000,
    jobs: options.Jobs = None,
    max_memory: options.MaxMemory = None,
    io: options.InputOutput = IoChoice.MMAP,
    stream: options.Stream = None,
    every_layer: options.EveryLayer = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.Color = ColorChoice.AUTO,
    no_progress: options.NoProgress = False,
) -> int:
    """Say what two models are to one another, and what changed from the first to the second.

    The first operand is taken as the good one, the second as new. More than two are compared pair by pair.

    Exit status: 0 compared, 1 findings at level --fail-on, 2 misused, 3 nothing to compare, 4 could not finish.
    """
    # Help does without NumPy, so nothing heavy is imported before it is needed.
    from jaynes_audit.analyzers.audit import Selection  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints import HubAccess  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.comparison.comparison import Manner  # noqa: PLC0415
    from jaynes_audit.analyzers.layer_audit import Criterion  # noqa: PLC0415
    from jaynes_audit.cli import comparing, delivery  # noqa: PLC0415
    from jaynes_audit.cli.reports.comparisons import COMPARISONS  # noqa: PLC0415

    plan = delivery.plan(output, COMPARISONS, color, quiet=quiet, verbose=verbose, every_layer=every_layer)
    report = comparing.report_on(
        comparing.Request(
            operands=operands,
            manner=Manner(
                exact=exact,
                selection=Selection(layers=layers, exclude=exclude),
                criterion=Criterion(min_fan_in=min_fan_in, min_weights=min_weights),
                jobs=jobs,
                max_memory=max_memory,
                io=Io(io.value),
            ),
            access=HubAccess(mode=options.mode_of(stream=stream), tell=say),
            fail_on=fail_on,
            show_progress=not (quiet or no_progress),
        )
    )
    delivery.deliver(report, plan, COMPARISONS)
    return report.exit_code
