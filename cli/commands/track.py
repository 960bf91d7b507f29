"""`jaynes track`: the checkpoints of one run, followed step by step."""

from jaynes_audit.cli import options
from jaynes_audit.cli.messages import say
from jaynes_audit.cli.options import ColorChoice, IoChoice


def track(
    run: options.RunTargets,
    *,
    output: options.TrackOutputs = ["table"],  # noqa: B006 - typer shows it, and nobody changes it
    steps: options.Steps = None,
    every: options.Every = 1,
    layers: options.Layers = ["*"],  # noqa: B006
    exclude: options.Exclude = [],  # noqa: B006
    min_fan_in: options.MinFanIn = 64,
    min_weights: options.MinWeights = 10_000,
    anatomy: options.Anatomy = False,
    jobs: options.Jobs = None,
    max_memory: options.MaxMemory = None,
    io: options.InputOutput = IoChoice.MMAP,
    stream: options.RunStream = None,
    resume: options.RunResume = True,
    every_layer: options.EveryLayer = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.Color = ColorChoice.AUTO,
    width: options.Width = None,
    no_progress: options.NoProgress = False,
) -> int:
    """Follow the distributions of a run's weights from checkpoint to checkpoint: what moved, and when it settled.

    A run that was killed goes on where it was: finished checkpoints are not read again.

    Exit status: 0 all were read, 2 misused, 3 nothing to track, 4 could not finish.
    """
    # Help does without NumPy, so nothing heavy is imported before it is needed.
    from jaynes_audit.analyzers.audit import Selection  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints import HubAccess  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.layer_audit import Criterion  # noqa: PLC0415
    from jaynes_audit.analyzers.track.series import Choice  # noqa: PLC0415
    from jaynes_audit.analyzers.track.tracking import Manner  # noqa: PLC0415
    from jaynes_audit.cli import delivery, tracking  # noqa: PLC0415
    from jaynes_audit.cli.reports.tracks import TRACKS  # noqa: PLC0415

    plan = delivery.plan(output, TRACKS, color, quiet=quiet, verbose=verbose, every_layer=every_layer, width=width)
    report = tracking.report_on(
        run,
        Manner(
            choice=Choice(steps=options.steps_of(steps), every=every),
            access=HubAccess(mode=options.mode_of(stream=stream), tell=say),
            selection=Selection(layers=layers, exclude=exclude),
            criterion=Criterion(min_fan_in=min_fan_in, min_weights=min_weights),
            dissect=anatomy,
            jobs=jobs,
            max_memory=max_memory,
            io=Io(io.value),
            resume=resume,
        ),
        show_progress=not (quiet or no_progress),
    )
    delivery.deliver(report, plan, TRACKS)
    return report.exit_code
