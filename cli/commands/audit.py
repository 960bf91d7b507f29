"""`jaynes audit`: read checkpoints, fit every layer, say what was found."""

from typing import TYPE_CHECKING

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli import options
from jaynes_audit.cli.messages import say
from jaynes_audit.cli.options import AmplitudeChoice, ColorChoice, IoChoice, Method

if TYPE_CHECKING:
    from jaynes_audit.analyzers.distributions.histogram_fit import HistogramBins

USUAL_BINS = 100


def audit(
    targets: options.Targets,
    *,
    output: options.Outputs = ["table"],  # noqa: B006 - typer shows it, and nobody changes it
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
    io: options.InputOutput = IoChoice.MMAP,
    stream: options.Stream = None,
    headers_only: options.HeadersOnly = False,
    verify: options.Verify = False,
    resume: options.Resume = None,
    save_sketches: options.SaveSketches = None,
    every_layer: options.EveryLayer = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    color: options.Color = ColorChoice.AUTO,
    no_progress: options.NoProgress = False,
) -> int:
    """Report which law every layer's weights follow, and what is wrong.

    Checkpoints are read, never run.

    Exit status: 0 nothing is an error, 1 findings at level error, 2 misused, 3 nothing to audit, 4 could not finish.
    """
    # Help does without NumPy, so nothing heavy is imported before it is needed.
    from jaynes_audit.analyzers.audit import Selection  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints import HubAccess  # noqa: PLC0415
    from jaynes_audit.analyzers.checkpoints.windows import Io  # noqa: PLC0415
    from jaynes_audit.analyzers.layer_audit import Criterion  # noqa: PLC0415
    from jaynes_audit.cli import auditing, delivery  # noqa: PLC0415
    from jaynes_audit.cli.reports import REPORTS  # noqa: PLC0415

    plan = delivery.plan(output, color, quiet=quiet, verbose=verbose, every_layer=every_layer)
    if save_sketches and any(each.output.path == save_sketches for each in plan):
        raise UsageError(f"a report and the sketches cannot both go to {str(save_sketches)!r}")
    report = auditing.report_on(
        auditing.Request(
            targets=targets,
            selection=Selection(layers=layers, exclude=exclude),
            criterion=Criterion(min_fan_in=min_fan_in, min_weights=min_weights),
            anatomy=anatomy,
            bins=_histogram(method, bins, range_end, amplitude),
            jobs=jobs,
            io=Io(io.value),
            access=HubAccess(mode=options.mode_of(stream=stream), headers_only=headers_only, verify=verify, tell=say),
            headers_only=headers_only,
            resume=resume,
            save_sketches=save_sketches,
            show_progress=not (quiet or no_progress),
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
