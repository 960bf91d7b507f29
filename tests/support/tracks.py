"""Runs made by hand: every number is given, none is measured, so a report of them never changes by itself."""

import math
from collections.abc import Mapping, Sequence

import msgspec

from jaynes_audit.analyzers.errors import CouldNotRead, JaynesError
from jaynes_audit.analyzers.record import DefectRecord, LeftOutRecord, Tool, failure_record
from jaynes_audit.analyzers.record.report import CoverageRecord, VarianceRecord
from jaynes_audit.analyzers.track.courses import courses
from jaynes_audit.analyzers.track.movers import frozen, transitions
from jaynes_audit.analyzers.track.point import GroupPoint, LayerPoint, Point
from jaynes_audit.analyzers.track.record import TrackReportRecord, run_record
from jaynes_audit.analyzers.track.series import STEP
from jaynes_audit.analyzers.track.tracking import Manner, Track, TrackedCheckpoint
from jaynes_audit.cli.exit_codes import ExitCode, exit_code_of

ERROR = 0.002
UP, DOWN, NORM = "layers.{}.mlp.up.weight", "layers.{}.mlp.down.weight", "layers.{}.norm.weight"

LAYER = LayerPoint(
    name="",
    role="mlp.up",
    stack="",
    depth=0,
    dtype="F32",
    rows=128,
    columns=128,
    connected=True,
    tied_to=None,
    weights=128 * 128,
    zero=0,
    not_finite=0,
    content="",
    rms=0.02,
    norm=2.56,
    mu=-4.5,
    sigma=1.1,
    skewness=-1.5,
    psi=0.16,
    se_mu=ERROR,
    se_sigma=ERROR,
    se_skewness=0.02,
    not_fitted=None,
    verdict="Gaussian",
)
GROUP = GroupPoint(
    role=None,
    layers=4,
    fitted=4,
    weights=4 * 128 * 128,
    zero=0,
    not_finite=0,
    rms=0.02,
    norm=5.12,
    mu=-4.5,
    sigma=1.1,
    skewness=-1.5,
    psi=0.16,
    mean_mu=-4.5,
    mean_sigma=1.1,
    not_fitted=None,
    tau_mu=0.2,
    tau_mu_noise=0.001,
    tau_sigma=0.01,
    tau_sigma_noise=0.001,
    no_tau=None,
)
NONE = {"mu": None, "sigma": None, "skewness": None, "psi": None}
NOT_FITTED = {**NONE, "se_mu": None, "se_sigma": None, "se_skewness": None, "not_fitted": "every weight is zero"}
COMPLETE = CoverageRecord(tensors=5, tensors_total=5, bytes=1000, bytes_total=1000, complete=True)


def layer(name: str, **changed: object) -> LayerPoint:
    """A layer whose content follows from its numbers, unless it is given."""
    made = msgspec.structs.replace(LAYER, name=name, **changed)
    return made if made.content else msgspec.structs.replace(made, content=str((made.mu, made.sigma)))


def group(role: str | None = None, **changed: object) -> GroupPoint:
    return msgspec.structs.replace(GROUP, role=role, **changed)


def point(*layers: LayerPoint, **changed: object) -> Point:
    usual = Point(
        verdict="neither",
        sentence="Neither: 0 of 4 highly connected layers are lognormal, more than half must be.",
        connected=group(),
        roles=[group(role) for role in sorted({each.role for each in layers})],
        variance=None,
        no_variance="not every highly connected matrix was taken apart; --anatomy asks for it",
        coverage=COMPLETE,
        left_out=[],
        defects=[],
        layers=list(layers),
    )
    return msgspec.structs.replace(usual, **changed)


def report(
    points: Mapping[int, Point],
    *,
    losses: Mapping[int, float] | None = None,
    failures: Mapping[str, JaynesError] | None = None,
    targets: Sequence[str] = ("run",),
    remarks: Sequence[str] = (),
    code: ExitCode = ExitCode.PASSED,
) -> TrackReportRecord:
    """The report on a run of these points, by their steps."""
    run = Track(
        targets=tuple(targets),
        unit=STEP,
        manner=Manner(),
        checkpoints=tuple(
            TrackedCheckpoint(
                location=f"{targets[0]}/checkpoint-{step}",
                number=step,
                commit="",
                loss=(losses or {}).get(step),
                point=each,
                remarks=(),
            )
            for step, each in points.items()
        ),
        failures=failures or {},
        courses=courses(points),
        transitions=transitions(list(points.values())),
        frozen=frozen(list(points.values())) if points else (),
        remarks=tuple(remarks),
    )
    return TrackReportRecord(
        tool=Tool(name="jaynes-audit", version="0"),
        run=run_record(run),
        failures=[failure_record(where, str(error), exit_code_of(error)) for where, error in run.failures.items()],
        exit_code=code,
        exit_reason=f"{len(points)} checkpoints read",
    )


def points(number: int = 12) -> dict[int, Point]:
    """Two blocks whose mu rises for five checkpoints; one layer moves alone later, one is frozen, one zero at first."""
    made: dict[int, Point] = {}
    for at in range(number):
        mu = -4.5 + 0.2 * min(at, 5) + 0.002 * (-1) ** at
        made[100 * at] = point(
            *(layer(UP.format(block), mu=mu - 0.1 * block) for block in range(3)),
            layer(DOWN.format(0), role="mlp.down", mu=mu),
            layer(DOWN.format(1), role="mlp.down", mu=mu + (0.5 if at > 8 else 0)),
            layer(DOWN.format(2), role="mlp.down", mu=mu),
            layer("embed.weight", role="embedding", connected=False, content="same"),
            layer(NORM.format(0), role="norm", connected=False, **({} if at else NOT_FITTED)),
            connected=group(mu=mu, rms=0.02 * math.exp(0.2 * min(at, 5))),
        )
    return made


def odd() -> TrackReportRecord:
    """A run with one of every odd thing."""
    made = points()
    damaged = made[700]
    made[700] = msgspec.structs.replace(
        damaged,
        coverage=CoverageRecord(tensors=4, tensors_total=5, bytes=900, bytes_total=1000, complete=False),
        connected=group(not_finite=3, zero=20_000, **NONE, tau_mu=None, tau_sigma=None, no_tau="too few"),
        left_out=[
            LeftOutRecord(name="x", dtype="F32", shape=[2, 2], reason="refused", explanation="its bytes end too early")
        ],
        defects=[DefectRecord(rule="JN001", case="cut", file="a.safetensors", sentence="'a.safetensors' ends early")],
        verdict="cannot be said",
    )
    made[800] = msgspec.structs.replace(
        made[800],
        variance=VarianceRecord(between_layers=0.1, between_rows=0.2, between_columns=0.3, residual=0.4),
        no_variance=None,
    )
    return report(
        made,
        losses={step: 5 - step / 1000 for step in made if step},
        failures={"run/checkpoint-1200": CouldNotRead("'run/checkpoint-1200' cannot be read: Input/output error")},
        remarks=["passed over other folders: 'tmp-checkpoint-1300'"],
        code=ExitCode.COULD_NOT_FINISH,
    )
