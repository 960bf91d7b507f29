"""`jaynes audit`: read checkpoints, fit every layer, say what was found."""

from typing import TYPE_CHECKING

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli import options
from jaynes_audit.cli.messages import say
from jaynes_audit.cli.options import AmplitudeChoice, ColorChoice, IoChoice, Method
from jaynes_audit.cli.reports.view import Show

if TYPE_CHECKING:
    from jaynes_audit.analyzers.distributions.histogram_fit import HistogramBins

USUAL_BINS = 100


def audit(
    targets: options.Targets,
    *,
    output: options.ReportOutputs = [],  # noqa: B006 - typer shows it, and nobody changes it
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
    anatomy: options.Anatomy = False,
    method: options.MethodOption = Method.LIKELIHOOD,
    bins: options.Bins = None,
    range_end: options.Range = None,
    amplitude: options.AmplitudeOption = None,
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
    save_sketches: options.SaveSketches = None,
    show: options.ShowOption = Show.NEW,
    every_layer: options.EveryLayer = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.Color = ColorChoice.AUTO,
    width: options.Width = None,
    timing: options.Timing = False,
    no_progress: options.NoProgress = False,
) -> int:
    """Report which law every layer's weights follow, and what is wrong.

    Checkpoints are read, never run.

    Exit status: 0 nothing found, 1 findings at level --fail-on, 2 misused, 3 nothing to audit, 4 could not finish.
    """
    # Help does without NumPy, so nothing heavy is imported before it is needed.
    from jaynes_audit.analyzers.audit import Selection  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints import HubAccess  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.layer_audit import Criterion  # noqa: PLC0415
    from jaynes_audit.cli import auditing, delivery, gating, hub_options  # noqa: PLC0415
    from jaynes_audit.cli.configuration.options import Options  # noqa: PLC0415
    from jaynes_audit.cli.reports.audits import REPORTS  # noqa: PLC0415

    if headers_only and sample is not None:
        raise UsageError(options.NEITHER_SAMPLED)
    settings = gating.settings_for(
        Options(
            targets=tuple(targets),
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
    if save_sketches and any(each.output.path == save_sketches for each in plan):
        raise UsageError(f"a report and the sketches cannot both go to {str(save_sketches)!r}")
    gating.refuse_inputs([each.output for each in plan], settings)
    report = auditing.report_on(
        auditing.Request(
            command="audit",
            targets=hub_options.at_revision(settings.targets, revision),
            reading=auditing.Reading(
                selection=Selection(layers=layers, exclude=exclude, sample=sample),
                criterion=Criterion(min_fan_in=min_fan_in, min_weights=min_weights),
                anatomy=anatomy,
                bins=_histogram(method, bins, range_end, amplitude),
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
            judging=gating.judging_by(settings, with_baseline=False),
            save_sketches=save_sketches,
            timing=timing,
        )
    )
    delivery.deliver(report, plan, REPORTS)
    return report.exit_code


def _histogram(
    method: Method, bins: int | None, range_end: float | None, amplitude: AmplitudeChoice | None
) -> "HistogramBins | None":
    from jaynes_audit.analyzers.distributions.histogram_fit import Amplitude, HistogramBins  # noqa: PLC0415 - see audit

    if method is Method.HISTOGRAM:
        height = Amplitude((amplitude or AmplitudeChoice.FREE).value)
        return HistogramBins(bins=bins or USUAL_BINS, range_end=range_end, amplitude=height)
    given = {"--bins": bins, "--range": range_end, "--amplitude": amplitude}
    unused = [option for option, value in given.items() if value is not None]
    if unused:
        raise UsageError(f"{' and '.join(unused)} can only be given with --method histogram")
    return None
