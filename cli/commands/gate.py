"""`jaynes gate`: fail the build when an exported checkpoint is broken or has drifted, and for nothing else."""

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli import options
from jaynes_audit.cli.messages import say
from jaynes_audit.cli.options import ColorChoice, IoChoice
from jaynes_audit.cli.reports.view import Show


def gate(
    targets: options.GateTargets = [],  # noqa: B006 - typer shows it, and nobody changes it
    *,
    output: options.ReportOutputs = [],  # noqa: B006 - as above, and so are the next ones
    baseline: options.BaselineOption = None,
    no_baseline: options.NoBaseline = False,
    fail_on: options.FailOnIfGiven = None,
    exit_zero: options.ExitZero = False,
    select: options.Select = [],  # noqa: B006
    extend_select: options.ExtendSelect = [],  # noqa: B006
    ignore_rule: options.IgnoreRule = [],  # noqa: B006
    preview: options.Preview = None,
    allow_pickle: options.AllowPickleOption = None,
    allow_global: options.AllowGlobal = [],  # noqa: B006
    config: options.ConfigFile = None,
    no_config: options.NoConfig = False,
    layers: options.Layers = ["*"],  # noqa: B006
    exclude: options.Exclude = [],  # noqa: B006
    min_fan_in: options.MinFanIn = 64,
    min_weights: options.MinWeights = 10_000,
    jobs: options.Jobs = None,
    max_memory: options.MaxMemory = None,
    io: options.InputOutput = IoChoice.MMAP,
    revision: options.Revision = None,
    stream: options.Stream = None,
    offline: options.Offline = False,
    cache_dir: options.CacheDir = None,
    headers_only: options.HeadersOnly = False,
    sample: options.Sample = None,
    verify: options.Verify = False,
    resume: options.Resume = None,
    show: options.ShowOption = Show.NEW,
    every_layer: options.EveryLayer = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.Color = ColorChoice.AUTO,
    width: options.Width = None,
    timing: options.Timing = False,
    no_progress: options.NoProgress = False,
) -> int:
    """Fail when a checkpoint is broken, or has drifted from its baseline. Prints only the findings.

    Targets, baseline, rules and what is ignored can stand in jaynes.toml; `jaynes config show` tells what holds.

    Exit status: 0 read whole and nothing found, 1 findings at level --fail-on, 2 misused, or a missing or damaged
    baseline, 3 nothing to audit, 4 could not finish.
    """
    # Help does without NumPy, so nothing heavy is imported before it is needed.
    from jaynes_audit.analyzers.audit import Selection  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints import HubAccess  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.layer_audit import Criterion  # noqa: PLC0415
    from jaynes_audit.cli import auditing, delivery, gating, hub_options  # noqa: PLC0415
    from jaynes_audit.cli.configuration.options import Options  # noqa: PLC0415
    from jaynes_audit.cli.reports.audits import REPORTS  # noqa: PLC0415

    settings = gating.settings_for(
        Options(
            targets=tuple(targets),
            baseline=baseline,
            no_baseline=no_baseline,
            fail_on=gating.level_of_failure(fail_on, exit_zero=exit_zero),
            output=tuple(output),
            select=tuple(select),
            extend_select=tuple(extend_select),
            ignore_rule=tuple(ignore_rule),
            preview=preview,
            allow_pickle=allow_pickle,
            config=config,
            no_config=no_config,
        )
    )
    if not settings.targets:
        raise UsageError(
            "there is nothing to gate: name a checkpoint, or put targets = [...] into jaynes.toml; "
            "`jaynes config show` tells what was found"
        )
    if headers_only and sample is not None:
        raise UsageError(options.NEITHER_SAMPLED)
    if headers_only and settings.baseline:
        raise UsageError(
            "--headers-only reads no weight, so there is nothing to hold against the baseline; give --no-baseline, too"
        )
    hub_options.set_environment(offline=offline, cache_dir=cache_dir)
    plan = delivery.plan(
        settings.outputs,
        REPORTS,
        color,
        quiet=quiet,
        verbose=verbose,
        every_layer=every_layer,
        width=width,
        show=show,
    )
    gating.refuse_inputs([each.output for each in plan], settings)
    report = auditing.report_on(
        auditing.Request(
            command="gate",
            targets=hub_options.at_revision(settings.targets, revision),
            reading=auditing.Reading(
                selection=Selection(layers=layers, exclude=exclude, sample=sample),
                criterion=Criterion(min_fan_in=min_fan_in, min_weights=min_weights),
                jobs=jobs,
                max_memory=max_memory,
                io=Io(io.value),
                access=HubAccess(mode=options.mode_of(stream=stream), headers_only=headers_only, tell=say),
                headers_only=headers_only,
                verify=verify,
                allow_global=allow_global,
                resume=resume,
                show_progress=not (quiet or no_progress),
            ),
            judging=gating.judging_by(settings, with_baseline=True),
            timing=timing,
        )
    )
    delivery.deliver(report, plan, REPORTS)
    return report.exit_code
