"""Hold what `jaynes equilibrium` says of small training runs against what is known of them.

    python benchmarks/calibrate_thermodynamics.py RUNS [--jobs N] [--moments N ...]

from the repository's root, with the folder that make_runs.py made. Prints Markdown: for every rule a table of truth
against answer, and how its figures are distributed. The truth is how a run was made, or a mean over many of its steps.
"""

import argparse
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.thermodynamics.equilibrium import Manner, audit_training
from jaynes_audit.analyzers.thermodynamics.noether import LEAST_CHANNELS
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Quantity, Statement

AT_REST, MOVING = 0.2, 0.4  # change of the logarithm of a squared norm while decay takes all of it once
FORGOTTEN, REMEMBERED = 0.10, 0.25  # how far apart two starts leave the rms
STATIONARY, FLOWING = 0.2, 0.5  # of added / taken less 1
SLOPES, FAR_SLOPES = (0.7, 1.4), (0.5, 2.0)  # of what steps added on what decay took
PAIR_WINDOW = 0.2  # as in make_runs.py
LEAST_LOOKS_OF_PAIRS = 10
WINDOW = 0.1  # of the steps before a checkpoint, over which norms are looked at
LEAST_LOOKS = 3
DROP_AT, SLOWLY, LATE = 0.6, 0.1, 0.9  # as in make_runs.py
YOUNG, OLD, FALLEN = 0.5, 1.5, 0.9
LARGE_START = "-large-start"

ENTRIES = ("embed_tokens", "embed_in", "wte", "wpe")
WRITES = (*ENTRIES, "o_proj", "down_proj", "attention.dense", "dense_4h_to_h", "attn.c_proj", "mlp.c_proj")
NORM = re.compile(r"norm|\bln_")
UNDER_NORM = re.compile(r"block (\d+), (queries|keys) under their norm")
FILTERS = re.compile(r"filters of '(.+)'")

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What was made wrong about a checkpoint, as make_runs.py tells."""

    name: str
    rates: float
    decay: float
    pairs: tuple[str, ...]
    squares: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run and the truth about it: what was looked at every few steps."""

    folder: Path
    plan: Mapping[str, object]
    looks: Sequence[Mapping[str, object]]
    pairs: Mapping[str, Mapping[str, Mapping[str, list[float]]]]

    @classmethod
    def read(cls, folder: Path) -> "Run":
        """Read the truth."""
        told = json.loads((folder / "truth.json").read_text())
        return cls(folder=folder, plan=told["plan"], looks=told["looks"], pairs=told["pairs"])

    @property
    def name(self) -> str:
        """What it is called."""
        return self.folder.name

    @property
    def steps(self) -> int:
        """How many steps it has."""
        return int(self.plan["steps"])

    @property
    def decay(self) -> float:
        """The weight decay of matrices."""
        return float(self.plan["decay"])

    @cached_property
    def rates(self) -> Floats:
        """The learning rate of each step."""
        at = [look["step"] for look in self.looks[1:]]
        rates = np.interp(np.arange(1, self.steps + 1), at, [look["rate"] for look in self.looks[1:]])
        if self.plan["schedule"] == "drop":
            low = rates.min()
            rates = np.where(np.arange(self.steps) < DROP_AT * self.steps, rates.max(), low)
        return rates

    def age(self, step: int) -> float:
        """Learning rate times weight decay, over all steps."""
        momentum = float(self.plan["momentum"])
        return float(self.rates[:step].sum()) * self.decay / (1 - momentum)

    @cached_property
    def decayed(self) -> tuple[str, ...]:
        """The matrices that decay acts on."""
        return tuple(
            name
            for name in self.looks[0]["squares"]
            if name.endswith("weight") and not NORM.search(name) and not self.is_meant("frozen", name)
        )

    def is_meant(self, what: str, name: str) -> bool:
        """Whether something was otherwise with a parameter."""
        return bool(self.plan[what]) and str(self.plan[what]) in name

    def square(self, step: int, names: Iterable[str]) -> float:
        """The squared norm of parameters together."""
        squares = next(look["squares"] for look in self.looks if look["step"] == step)
        return sum(squares[name] for name in names)

    def drift(self, step: int, names: Sequence[str]) -> float:
        """How fast a squared norm goes: the change of its logarithm over the age that the change took."""
        start = (1 - WINDOW) * step
        if self.plan["schedule"] == "drop" and step > DROP_AT * self.steps:
            start = max(start, DROP_AT * self.steps)
        looks = [look for look in self.looks if start <= look["step"] <= step]
        looks = looks if len(looks) >= LEAST_LOOKS else [e for e in self.looks if e["step"] <= step][-LEAST_LOOKS:]
        ages = [self.age(look["step"]) for look in looks]
        logs = [math.log(sum(look["squares"][name] for name in names)) for look in looks]
        return float(np.polyfit(ages, logs, 1)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One checkpoint and what is said of it."""

    run: Run
    step: int
    fault: Fault | None
    statements: tuple[Statement, ...]

    def of(self, quantity: Quantity) -> Iterator[Statement]:
        """What is said of one quantity."""
        return (each for each in self.statements if each.quantity is quantity)


Row = tuple[int, str]
"""Its place in a table, and what stands there."""


class Table:
    """Truth against answer."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.counts: defaultdict[Row, Counter[Answer]] = defaultdict(Counter)

    def add(self, truth: Row, answer: Answer) -> None:
        """Count one statement."""
        self.counts[truth][answer] += 1

    def lines(self, title: str) -> Iterator[str]:
        """The table as Markdown."""
        yield f"| {title} | " + " | ".join(Answer) + " |"
        yield "| --- |" + " ---: |" * len(Answer)
        for (_, truth), counts in sorted(self.counts.items()):
            yield f"| {truth} | " + " | ".join(str(counts[each]) for each in Answer) + " |"
        yield ""


class Spread:
    """How numbers are distributed."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.values: defaultdict[Row, list[float]] = defaultdict(list)

    def add(self, row: Row, value: float) -> None:
        """Take one number."""
        self.values[row].append(value)

    def lines(self, title: str) -> Iterator[str]:
        """Quantiles as Markdown."""
        yield f"| {title} | number | least | 5 % | median | 95 % | greatest |"
        yield "| --- |" + " ---: |" * 6
        for (_, row), values in sorted(self.values.items()):
            quantiles = " | ".join(f"{value:.3g}" for value in np.quantile(values, [0, 0.05, 0.5, 0.95, 1]))
            yield f"| {row} | {len(values)} | {quantiles} |"
        yield ""


def within(value: float, near: tuple[float, float], far: tuple[float, float]) -> Answer:
    """What a number says that should lie within near limits, and surely does not beyond far ones."""
    if near[0] <= value <= near[1]:
        return Answer.HOLDS
    return Answer.CANNOT_BE_SAID if far[0] <= value <= far[1] else Answer.DOES_NOT_HOLD


def graded(value: float, limits: tuple[float, float], names: tuple[str, str, str]) -> Row:
    """Below both limits, between them, or above both."""
    place = sum(value > limit for limit in limits)
    return place, names[place]


def main() -> None:
    """Ask about every checkpoint, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    chosen = parser.parse_args()
    with ProcessPoolExecutor(chosen.jobs) as pool:
        asked = list(pool.map(_asked, checkpoints(chosen.runs)))
    print("\n".join(report([Run.read(path.parent) for path in sorted(chosen.runs.glob("*/truth.json"))], asked)))


# ---- asking


def checkpoints(runs: Path) -> list[Path]:
    """All that is asked about: what was trained, and what was spoiled."""
    done = [path.parent for path in sorted(runs.glob("*/truth.json"))]
    return [folder for run in done for pattern in ("checkpoint-*", "spoiled-*") for folder in sorted(run.glob(pattern))]


Asked = tuple[Path, tuple[Statement, ...]]


def _asked(folder: Path) -> Asked:
    plan = json.loads((folder.parent / "truth.json").read_text())["plan"]
    start = folder.parent / "checkpoint-0"
    earlier = str(start) if plan["method"] == "sgd" and folder != start else None
    manner = Manner(initial=str(start), earlier=earlier, jobs=1)
    return folder, audit_training(str(folder), manner).statements


def cases_of(runs: Sequence[Run], asked: Sequence[Asked]) -> list[Case]:
    """Join what was asked to what is true."""
    by_folder = {run.folder: run for run in runs}
    return [_case(by_folder[folder.parent], folder, statements) for folder, statements in asked]


def _case(run: Run, folder: Path, statements: tuple[Statement, ...]) -> Case:
    if folder.name.startswith("checkpoint-"):
        return Case(run=run, step=int(folder.name.rpartition("-")[2]), fault=None, statements=statements)
    told = json.loads((folder / "fault.json").read_text())
    fault = Fault(
        name=told["fault"],
        rates=told["rates"],
        decay=told["decay"],
        pairs=tuple(told["pairs"]),
        squares=told["squares"],
    )
    return Case(run=run, step=run.steps, fault=fault, statements=statements)


def report(runs: Sequence[Run], asked: Sequence[Asked]) -> Iterator[str]:
    """All tables."""
    cases = cases_of(runs, asked)
    healthy = [case for case in cases if case.fault is None]
    trained = [case for case in healthy if case.step]
    named = [case for case in cases if case.fault and not case.fault.name.endswith("-unnamed")]
    for title, lines in (
        ("The runs", _runs(runs)),
        ("Run age", _ages(runs, trained)),
        ("Predicted rms", _rms(trained, named)),
        ("Equation of state", _states(trained)),
        ("AdamW balance", _balances(trained)),
        ("Noether check", _noether(trained, cases)),
        ("Norm flux", _fluxes(trained)),
        ("Charges under SGD", _charges([*trained, *named])),
        ("LoRA balance", _loras(healthy)),
        ("Initialisation", _starts(healthy)),
    ):
        yield f"## {title}\n"
        yield from lines


def figure(statement: Statement, name: str) -> float:
    """A figure of a statement; NaN where it has none of that name."""
    return next((each.value for each in statement.figures if each.name == name), math.nan)


def _runs(runs: Sequence[Run]) -> Iterator[str]:
    yield "| run | width x depth | optimizer | schedule | rate | decay | steps | age |"
    yield "| --- | --- | --- | --- | ---: | ---: | ---: | ---: |"
    for run in runs:
        plan = run.plan
        yield (
            f"| {run.name} | {plan['width']} x {plan['depth']} | {plan['method']} | {plan['schedule']} | "
            f"{plan['rate']:g} | {run.decay:g} | {run.steps:,} | {run.age(run.steps):.2g} |"
        )
    yield ""


# ---- each rule


def _ages(runs: Sequence[Run], cases: Sequence[Case]) -> Iterator[str]:
    """Two runs whose weights began unlike: what is left of the difference."""
    large = {run.name.removesuffix(LARGE_START): run for run in runs if run.name.endswith(LARGE_START)}
    table = Table()
    rows = []
    for case in cases:
        twin = large.get(case.run.name)
        if twin is None:
            continue
        ratio = math.sqrt(twin.square(case.step, twin.decayed) / case.run.square(case.step, case.run.decayed))
        truth = graded(
            ratio - 1,
            (FORGOTTEN, REMEMBERED),
            (f"within {FORGOTTEN:.0%} of each other", "between", f"more than {REMEMBERED:.0%} apart"),
        )
        said = next(each for each in case.of(Quantity.RUN_AGE) if not math.isnan(figure(each, "age")))
        table.add(truth, said.answer)
        rows.append((figure(said, "age"), case.run.name, ratio))
    yield from table.lines("what two starts, one three times the other, leave of the rms")
    yield "| age | run | rms from the large start / from the small one |"
    yield "| ---: | --- | ---: |"
    yield from (f"| {age:.2f} | {name} | {ratio:.3f} |" for age, name, ratio in sorted(rows))
    yield ""


def _members(run: Run, subject: str) -> tuple[str, ...]:
    """The decayed tensors of a block whose scale the network cannot see."""
    if match := UNDER_NORM.fullmatch(subject):
        end = f"layers.{match[1]}.self_attn.{match[2][0]}_proj.weight"
        return tuple(name for name in run.decayed if name.endswith(end))
    if match := FILTERS.fullmatch(subject):
        return (f"{match[1]}.weight",)
    if subject == "residual-stream writes":
        return tuple(name for name in run.decayed if name.removesuffix(".weight").endswith(WRITES))
    return ()


def _kind(subject: str) -> str:
    """The kind of a block or pair, without its number and its own names."""
    if FILTERS.fullmatch(subject):
        return "filters under BatchNorm"
    if subject.startswith("'"):
        return "ReLU or linear neurons"
    kind = re.sub(r"^block \d+, ", "", subject)
    return "norm / its readers" if kind.endswith("its readers") else kind


def _mean_square(rates: Floats, decay: float, start: float) -> float:
    for rate in rates:
        start = (1 - rate * decay) ** 2 * start + rate**2
    return start


def _effect(case: Case, members: Sequence[str]) -> float:
    """By which factor what is wrong about a checkpoint moves measured over predicted rms of a block."""
    run, fault, rates = case.run, case.fault, case.run.rates[: case.step]
    start = run.square(0, members) / _weights(run, members)
    if fault is not None:
        right = _mean_square(rates, run.decay, start)
        wrong = _mean_square(rates * fault.rates, run.decay * fault.decay, start)
        measured = sum(fault.squares[name] for name in members) / run.square(run.steps, members)
        return math.sqrt(measured * right / wrong)
    slow = [name for name in members if run.is_meant("slow", name)]
    if slow:
        right, late = _mean_square(rates, run.decay, start), _mean_square(rates * SLOWLY, run.decay, start)
        share = _weights(run, slow) / _weights(run, members)
        return math.sqrt(1 - share + share * late / right)
    if any(run.is_meant("redrawn", name) for name in members) and case.step > LATE * run.steps:
        before = max(look["step"] for look in run.looks if look["step"] < LATE * run.steps)
        return math.sqrt(run.square(case.step, members) / run.square(before, members))
    return 1.0


def _weights(run: Run, names: Iterable[str]) -> int:
    """How many weights tensors have."""
    from safetensors import safe_open

    with safe_open(run.folder / "checkpoint-0" / "model.safetensors", "np") as file:
        return sum(math.prod(file.get_slice(name).get_shape()) for name in names)


def _rms(trained: Sequence[Case], spoiled: Sequence[Case]) -> Iterator[str]:
    table, spread, singles = Table(), Spread(), Spread()
    for case in (*trained, *spoiled):
        for said in case.of(Quantity.PREDICTED_RMS):
            ratio, members = figure(said, "measured / predicted"), _members(case.run, said.subject)
            if math.isnan(ratio):
                continue
            if members:
                effect = _effect(case, members)
                if effect == 1 and case.fault is not None:
                    continue  # it is the healthy checkpoint once more
                is_beside = effect == 1 and _is_odd(case.run)
                table.add((-1, "another matrix is frozen, or was") if is_beside else _wrong(effect), said.answer)
                if effect == 1 and not is_beside:
                    spread.add((0, f"{_kind(said.subject)}, {_when(case)}"), ratio)
            elif case.fault is None and not _is_odd(case.run):
                head = "head" if "lm_head" in said.subject or "embed_out" in said.subject else "other matrices"
                singles.add((0, head), ratio)
    yield from table.lines("record and weights of a block")
    yield from spread.lines("measured / predicted, nothing wrong")
    yield from singles.lines("measured / predicted of single matrices, nothing wrong")


def _wrong(effect: float) -> Row:
    if effect == 1:
        return -2, "nothing is wrong"
    return graded(
        math.exp(abs(math.log(effect))),
        (LITTLE, MUCH),
        (
            f"wrong by a factor below {LITTLE}",
            f"wrong by a factor of {LITTLE} to {MUCH}",
            f"wrong by a factor above {MUCH}",
        ),
    )


LITTLE, MUCH = 1.1, 1.4


def _is_odd(run: Run) -> bool:
    return any(run.plan[what] for what in ("slow", "frozen", "thawed", "redrawn"))


WHENS = (
    "young (age below 0.5)",
    "age 0.5 to 1.5, highest rate",
    "age 0.5 to 1.5, fallen rate",
    "age from 1.5, highest rate",
    "age from 1.5, fallen rate",
)
"""The ages of checkpoints, and whether the rate has fallen below nine tenths of the highest."""


def _when(case: Case) -> str:
    age = case.run.age(case.step)
    has_fallen = case.run.rates[case.step - 1] < FALLEN * case.run.rates.max()
    return WHENS[0] if age < YOUNG else WHENS[1 + 2 * (age >= OLD) + has_fallen]


def _states(cases: Sequence[Case]) -> Iterator[str]:
    table, spread = Table(), Spread()
    names = (f"rests (below {AT_REST})", "between", f"moves (above {MOVING})")
    for case in cases:
        for said in case.of(Quantity.STATE_EQUATION):
            members = _members(case.run, said.subject)
            if not members or _is_odd(case.run):
                continue
            when = _when(case)
            place, truth = graded(abs(case.run.drift(case.step, members)), (AT_REST, MOVING), names)
            row = 3 * WHENS.index(when) + place, f"{when}: {truth}"
            table.add(row, said.answer)
            if not math.isnan(ratio := figure(said, "ratio")):
                spread.add(row, ratio)
    yield from table.lines("how the squared norm goes")
    yield from spread.lines("ratio of the equation of state")


def _slope(added: Sequence[float], taken: Sequence[float]) -> float:
    """The slope of a line through the origin, of what was added on what was taken."""
    left, right = np.asarray(added), np.asarray(taken)
    if left.shape != right.shape or not right.any() or not left.any():
        return math.nan
    return float(left @ right / (right @ right))


BALANCES: Mapping[Answer, Row] = {
    Answer.HOLDS: (0, "they balance (slope {} to {})".format(*SLOPES)),
    Answer.CANNOT_BE_SAID: (1, "between"),
    Answer.DOES_NOT_HOLD: (2, "they do not (slope below {} or above {})".format(*FAR_SLOPES)),
}


def _balances(cases: Sequence[Case]) -> Iterator[str]:
    made, kept, errors = Table(), Table(), Spread()
    for case in cases:
        truths = case.run.pairs.get(str(case.step), {})
        for said in case.of(Quantity.ADAMW_BALANCE):
            truth = truths.get(said.subject.replace("'", ""))
            if truth is None:
                continue
            when = _made(case, said.subject)
            made.add(when, said.answer)
            actual = _slope(truth["added"], truth["taken"])
            if _has_no_mean(case) or math.isnan(actual) or when[1] not in WHENS:
                continue
            has_fallen = when[1].endswith("fallen rate")
            place, truly = BALANCES[within(actual, SLOPES, FAR_SLOPES)]
            kept.add((place + 3 * has_fallen, f"{'fallen' if has_fallen else 'highest'} rate: {truly}"), said.answer)
            if case.run.age(case.step) < OLD:
                continue
            kind, slope = _kind(said.subject), figure(said, "slope")
            if not math.isnan(slope):
                errors.add((0, f"{kind}: as said of one checkpoint"), slope - actual)
            errors.add(
                (0, f"{kind}: law of rest, mean of many steps"),
                _slope(truth["noise_by_rate"], truth["decayed"]) - actual,
            )
    yield from made.lines("how the run was made")
    yield from kept.lines("what steps added on what decay took, over the last fifth of the steps")
    yield from errors.lines(f"slope less the true one, age from {OLD}")


def _has_no_mean(case: Case) -> bool:
    """Whether there was little to take the truth as a mean of, or the rate fell at once among it."""
    start, fall = (1 - PAIR_WINDOW) * case.step, DROP_AT * case.run.steps
    looks = sum(start <= look["step"] <= case.step for look in case.run.looks)
    return looks < LEAST_LOOKS_OF_PAIRS or (case.run.plan["schedule"] == "drop" and start < fall < case.step)


def _made(case: Case, subject: str) -> Row:
    run = case.run
    if not run.decay:
        return 8, "no decay"
    if run.plan["slow"] and subject == "block 1, up/down":
        return 6, "a pair that learns ten times slower than the files tell"
    if run.plan["thawed"] and subject == "block 1, up/down":
        return 7, "a pair of which one side was frozen for nine tenths of the steps, or still is"
    return WHENS.index(_when(case)), _when(case)


def _noether(trained: Sequence[Case], cases: Sequence[Case]) -> Iterator[str]:
    rows, wholes, spread = Table(), Table(), Spread()
    for case in (*trained, *(case for case in cases if case.fault)):
        fault = case.fault
        if fault is not None and (fault.rates, fault.decay) != (1, 1):
            continue
        for said in case.of(Quantity.NOETHER):
            correlation = figure(said, "correlation")
            if said.subject == "the optimizer's memory":
                wholes.add(_whole(fault), said.answer)
            elif not math.isnan(correlation):
                row, kind = _entries(fault, said.subject), _kind(said.subject)
                is_shown_only = kind.endswith(("readers", "head"))
                rows.add((10, "norms and head, which are only shown") if is_shown_only else row, said.answer)
                if not is_shown_only and figure(said, "channels") >= LEAST_CHANNELS:
                    spread.add((row[0], f"{row[1]}: {kind}"), correlation)
    yield from rows.lines("entries of a pair")
    yield from wholes.lines("the optimizer's memory as a whole")
    yield from spread.lines("correlation")


def _entries(fault: Fault | None, subject: str) -> Row:
    """What is true of the optimizer's entries of a pair."""
    if fault is None or not fault.pairs:
        return 0, "right"
    if "*" in fault.pairs:
        return 4, "of an earlier step"
    if subject not in fault.pairs:
        return 1, "right, beside a wrong pair"
    return (3, "right, but weights drawn anew since") if "redrawn" in fault.name else (2, "swapped")


def _whole(fault: Fault | None) -> Row:
    """What is true of the optimizer as a whole."""
    name = fault.name if fault is not None else ""
    if not name:
        return 0, "right, parameters numbered"
    if name == "named":
        return 1, "right, parameters named"
    if name.endswith("-unnamed"):
        return 3, "entries swapped, parameters numbered"
    if name == "stale":
        return 4, "of an earlier step, parameters named"
    if name.endswith("redrawn"):
        return 5, f"right, but weights drawn anew since ({name.removesuffix('-redrawn')})"
    return (2, "entries swapped, parameters named") if fault and fault.pairs else (6, "right, but weights scaled since")


def _fluxes(cases: Sequence[Case]) -> Iterator[str]:
    table, spread = Table(), Spread()
    for case in cases:
        run, step = case.run, case.step
        for said in case.of(Quantity.NORM_FLUX):
            ratio = figure(said, "added / taken")
            if math.isnan(ratio) or _is_odd(run):
                continue
            drift = run.drift(step, run.decayed)
            # A norm that nothing is added to loses twice its logarithm over an age of 1.
            actual = 1 + drift / 2
            truth = graded(
                abs(actual - 1),
                (STATIONARY, FLOWING),
                (f"within {STATIONARY:.0%} of 1", "between", f"further than {FLOWING:.0%} from 1"),
            )
            table.add(truth, said.answer)
            spread.add(truth, ratio / actual)
    yield from table.lines("added / taken, as norms went over the last tenth of the steps")
    yield from spread.lines("what one checkpoint says / what norms did")


def _charges(cases: Sequence[Case]) -> Iterator[str]:
    table = Table()
    lines = []
    for case in cases:
        if case.run.plan["method"] != "sgd":
            continue
        for said in case.of(Quantity.CHARGES):
            drift = figure(said, "drift")
            if math.isnan(drift):
                continue
            right = case.fault is None
            table.add(
                (0, "recorded as it was") if right else (1, "recorded as a third, or three times, of it"), said.answer
            )
            if right and case.step == case.run.steps:
                expected = 1 - math.exp(-2 * case.run.age(case.step))
                lines.append(f"| {case.run.name}, {said.subject} | {expected:.3f} | {drift:.3f} | {said.answer} |")
    yield from table.lines("weight decay")
    yield "| run and pair | drift by decay alone | drift since the start | answer |"
    yield "| --- | ---: | ---: | --- |"
    yield from lines
    yield ""


def _loras(cases: Sequence[Case]) -> Iterator[str]:
    table = Table()
    for case in cases:
        for said in case.of(Quantity.LORA_BALANCE):
            if not case.step:
                truth = 2, "before training"
            elif case.run.plan["frozen"]:
                truth = 1, "B was trained, A was not"
            else:
                truth = 0, "A and B were trained"
            table.add(truth, said.answer)
    yield from table.lines("the adapter")


def _starts(cases: Sequence[Case]) -> Iterator[str]:
    table = Table()
    for case in cases:
        for said in case.of(Quantity.INITIALISATION):
            plain = case.run.plan["network"] in {"relu", "linear"}
            if not plain:
                truth = 2, "no perceptron"
            elif case.step:
                truth = 1, "trained"
            else:
                truth = 0, "untrained: PyTorch's start, which is not critical"
            table.add(truth, said.answer)
    yield from table.lines("the weights")


if __name__ == "__main__":
    main()
