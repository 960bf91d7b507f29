"""Runs of small networks, read checkpoint by checkpoint."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median

import numpy as np
import platformdirs
import pytest

import jaynes_audit
from jaynes_audit.analyzers.audit import Selection, audit_checkpoint
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.errors import NothingToAudit, UsageError
from jaynes_audit.analyzers.journal import KEPT_SECONDS
from jaynes_audit.analyzers.layer_audit import Criterion
from jaynes_audit.analyzers.track import keeping
from jaynes_audit.analyzers.track.series import Choice
from jaynes_audit.analyzers.track.settling import Course, Settling
from jaynes_audit.analyzers.track.tracking import Manner, Track, track
from tests.support.checkpoint_files import checkpoint

SIZE = 128
UP, DOWN = "model.layers.{}.mlp.up_proj.weight", "model.layers.{}.mlp.down_proj.weight"
NAMES = [name.format(block) for block in range(2) for name in (UP, DOWN)]


def network(scale: float, seed: int = 0, **changed: np.ndarray) -> dict[str, np.ndarray]:
    """Four Gaussian matrices of one scale, and a gain."""
    dice = np.random.default_rng(seed)
    matrices = {name: (scale * dice.standard_normal((SIZE, SIZE))).astype(np.float32) for name in NAMES}
    return {**matrices, "model.norm.weight": np.linspace(0.9, 1.1, SIZE, dtype=np.float32), **changed}


def small(seed: int) -> dict[str, np.ndarray]:
    """One of its matrices, and a gain."""
    return {NAMES[0]: network(0.02, seed)[NAMES[0]], "model.norm.weight": np.ones(SIZE, np.float32)}


def write(root: Path, step: int, tensors: dict[str, np.ndarray]) -> Path:
    folder = root / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    return checkpoint(folder / "model.safetensors", tensors)


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve checkpoints whose scale grows until step 500 and then stays."""
    root = tmp_path_factory.mktemp("long")
    for at in range(12):
        write(root, 100 * at, network(0.02 * math.exp(0.2 * min(at, 5)), seed=at))
    return root


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Four small checkpoints."""
    for at in range(4):
        write(tmp_path / "run", 100 * at, small(seed=at))
    return tmp_path / "run"


class Watch:
    """What is read, by the names under which it is announced."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.read: list[str] = []
        self._stop_after = stop_after

    def __call__(self, what: str, total_bytes: Callable[[], int]) -> AbstractContextManager[Callable[[int], None]]:
        return self._watched(what, total_bytes)

    @contextmanager
    def _watched(self, what: str, total_bytes: Callable[[], int]) -> Iterator[Callable[[int], None]]:
        if len(self.read) == self._stop_after:
            raise KeyboardInterrupt
        self.read.append(what)
        told: list[int] = []
        yield told.append
        assert sum(told) == total_bytes()


def tracked(*targets: Path, **options: object) -> Track:
    return track([str(target) for target in targets], Manner(**{"resume": False, **options}))


# ---- what is measured


def test_every_number_is_that_of_an_audit(long_run: Path) -> None:
    found = tracked(long_run, choice=Choice(every=3)).checkpoints[1]
    audit = audit_checkpoint(open_checkpoint(found.location))
    connected = [layer for layer in audit if layer.connected]
    claim = jaynes_audit.try_claim([audit])
    assert [each.name for each in found.point.layers] == [layer.name for layer in audit]
    group = found.point.connected
    assert (group.layers, group.weights) == (4, 4 * SIZE * SIZE)
    assert group.mu == median(layer.fit.moments.log_mean for layer in connected)
    assert group.sigma == median(layer.fit.moments.log_sigma for layer in connected)
    overall = {each.quantity: each.overall for each in claim.constancy}
    assert (group.tau_mu, group.tau_sigma) == (overall["mu"].unweighted_tau, overall["sigma"].unweighted_tau)
    assert found.point.verdict == claim.verdict


def test_norms_are_those_of_the_weights(long_run: Path) -> None:
    point = tracked(long_run, choice=Choice(every=3)).checkpoints[1].point
    tensors = network(0.02 * math.exp(0.6), seed=3)
    weights = np.concatenate([tensors[name].ravel() for name in NAMES]).astype(float)
    assert point.connected.norm == pytest.approx(np.linalg.norm(weights), rel=1e-6)
    assert point.connected.rms == pytest.approx(math.sqrt((weights**2).mean()), rel=1e-6)
    for layer in point.layers:  # the sum of squares of a vector comes from its histogram
        error = 1e-6 if layer.rows > 1 else 1e-3
        assert layer.norm == pytest.approx(np.linalg.norm(tensors[layer.name].astype(float)), rel=error)


def test_a_growing_scale_is_seen_to_settle(long_run: Path) -> None:
    found = tracked(long_run)
    of_mu, of_sigma = [course for course in found.courses if course.role is None]
    assert isinstance(of_mu.settling, Settling)
    assert of_mu.settling.course is Course.SETTLED
    assert of_mu.settling.earliest <= 500 <= of_mu.settling.latest
    assert of_mu.settling.level - of_mu.settling.start == pytest.approx(1.0, abs=0.02)
    assert isinstance(of_sigma.settling, Settling)
    assert of_sigma.settling.course is Course.STEADY
    assert [len(each.moves) for each in found.transitions] == [4] * 5 + [0] * 6
    assert found.frozen == ("model.norm.weight",)


def test_copies_of_one_checkpoint_are_told(tmp_path: Path) -> None:
    for step in (1, 2):
        write(tmp_path, step, small(seed=0))
    assert "the very same weights" in tracked(tmp_path).remarks[0]


def test_a_layer_that_is_zero_at_first_is_followed_apart(tmp_path: Path) -> None:
    nothing = np.zeros((SIZE, SIZE), np.float32)
    for at in range(8):
        write(tmp_path, at, network(0.02, seed=at, **({NAMES[0]: nothing} if not at else {})))
    courses = {(course.role, course.quantity): course for course in tracked(tmp_path).courses}
    assert courses[None, "mu"].layers == 3
    assert courses["mlp.up", "mu"].layers == 1


def test_the_loss_is_the_one_that_was_logged_last(run: Path) -> None:
    history = [{"step": step, "loss": 5 - step / 1000} for step in range(0, 400, 50)]
    for folder in run.iterdir():
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))
    assert [each.loss for each in tracked(run).checkpoints] == [5 - 0.1 * at for at in range(4)]


def test_it_does_not_matter_how_many_threads_read(run: Path) -> None:
    assert tracked(run, jobs=1).to_dict() == tracked(run, jobs=5).to_dict()


def test_a_sketch_archive_stands_for_its_checkpoint(run: Path, tmp_path: Path) -> None:
    steps = [run / "checkpoint-100", run / "checkpoint-200"]
    archives = [tmp_path / f"step{number}.sketches.safetensors" for number in (100, 200)]
    for step, archive in zip(steps, archives, strict=True):
        jaynes_audit.audit(step, save_sketches=archive)
    plain, archived = tracked(*steps), tracked(*archives)
    assert [each.point for each in archived.checkpoints] == [each.point for each in plain.checkpoints]


def test_matrices_that_are_all_too_small_are_told_to_be_so(run: Path) -> None:
    course = tracked(run, criterion=Criterion(min_weights=SIZE * SIZE + 1)).courses[0]
    assert course.settling.reason == (
        "no matrix that was chosen is highly connected (--min-fan-in and --min-weights say which are)"
    )


# ---- what is not of one model, or cannot be read


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({NAMES[1]: np.ones((SIZE, 2 * SIZE), np.float32)}, "is 128 x 128 in the first and 128 x 256 in the second"),
        ({"extra.weight": np.ones((SIZE, SIZE), np.float32)}, "only the second has 'extra.weight'"),
    ],
)
def test_unlike_models_are_no_run(tmp_path: Path, changed: dict[str, np.ndarray], fault: str) -> None:
    write(tmp_path, 1, network(0.02))
    write(tmp_path, 2, network(0.02, **changed))
    with pytest.raises(UsageError, match=f"checkpoint-2' are not of one model: .*{fault}"):
        tracked(tmp_path)
    assert len(tracked(tmp_path, selection=Selection(layers=[NAMES[0]])).checkpoints) == 2


def test_a_model_that_lost_a_layer_is_another(tmp_path: Path) -> None:
    write(tmp_path, 1, network(0.02))
    shorter = network(0.02)
    del shorter[NAMES[2]]
    write(tmp_path, 2, shorter)
    with pytest.raises(UsageError, match=f"only the first has '{NAMES[2]}'"):
        tracked(tmp_path)


def test_what_cannot_be_read_stops_nobody_else(run: Path) -> None:
    (run / "checkpoint-0" / "model.safetensors").unlink()
    cut = run / "checkpoint-100" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1000])
    (run / "checkpoint-200" / "model.safetensors").write_bytes(b"<html>")
    found = tracked(run)
    [(location, error)] = found.failures.items()
    assert (Path(location).name, type(error)) == ("checkpoint-0", NothingToAudit)
    complete = {each.number: each.point.coverage.complete for each in found.checkpoints}
    assert complete == {100: False, 200: False, 300: True}
    assert {course.steps for course in found.courses} == {(300,)}


# ---- what is kept


def test_what_is_finished_is_not_read_again(run: Path) -> None:
    first, second = Watch(), Watch()
    whole = tracked(run, resume=True, watched=first)
    assert len(first.read) == 4
    assert tracked(run, resume=True, watched=second).to_dict() == whole.to_dict() == tracked(run).to_dict()
    assert second.read == []


@pytest.mark.parametrize("stop_after", [0, 1, 3])
def test_a_run_that_was_stopped_goes_on_where_it_was(run: Path, stop_after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        tracked(run, resume=True, watched=Watch(stop_after=stop_after))
    rest = Watch()
    found = tracked(run, resume=True, watched=rest)
    assert len(rest.read) == 4 - stop_after
    assert found.to_dict() == tracked(run).to_dict()


def kept() -> list[Path]:
    return sorted((platformdirs.user_cache_path("jaynes-audit") / "track").glob("*"))


@pytest.fixture
def _no_other_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def again(run: Path, **options: object) -> int:
    """How many checkpoints are read once more."""
    watch = Watch()
    tracked(run, resume=True, watched=watch, **options)
    return len(watch.read)


@pytest.mark.usefixtures("_no_other_points")
def test_what_is_read_otherwise_is_read_again(run: Path) -> None:
    assert again(run) == 4
    assert again(run, criterion=Criterion(min_fan_in=65)) == 4
    assert again(run, selection=Selection(exclude=["*norm*"])) == 4
    assert again(run, dissect=True) == 4
    (run / "checkpoint-200" / "config.json").write_text('{"initializer_range": 0.5}')
    checkpoint(run / "checkpoint-300" / "model.safetensors", small(seed=9))
    assert again(run) == 2
    assert again(run) == 0


@pytest.mark.usefixtures("_no_other_points")
@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda _: b"", lambda content: content.replace(b"4", b"5")]
)
def test_a_damaged_point_is_read_again(run: Path, damage: Callable[[bytes], bytes]) -> None:
    assert again(run) == 4
    kept()[3].write_bytes(damage(kept()[3].read_bytes()))
    assert again(run) == 1
    assert again(run) == 0


@pytest.mark.usefixtures("_no_other_points")
def test_no_point_is_kept_of_what_is_incomplete_or_unasked(run: Path) -> None:
    cut = run / "checkpoint-100" / "model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-1000])
    tracked(run)
    assert not kept()
    again(run)
    assert len(kept()) == 3


@pytest.mark.usefixtures("_no_other_points")
def test_points_that_nobody_asked_for_in_a_month_go(run: Path) -> None:
    again(run)
    long_ago = time.time() - KEPT_SECONDS - 1
    for path in kept():
        os.utime(path, (long_ago, long_ago))
    half_written = kept()[0].with_suffix(".1.part")
    half_written.touch()
    os.utime(half_written, (long_ago, long_ago))
    assert again(run, choice=Choice(steps=(100, 200))) == 0  # these two are in use
    checkpoint(run / "checkpoint-300" / "model.safetensors", small(seed=9))
    assert again(run, choice=Choice(steps=(100, 300))) == 1
    assert len(kept()) == 3


def test_a_folder_that_cannot_be_written_stops_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    found = tracked(run, resume=True)
    assert len(found.checkpoints) == 4
    assert [remark for remark in found.remarks if "cannot be kept" in remark] == list(found.remarks)
    assert len(found.remarks) == 1


def test_the_name_of_a_point_tells_the_version_of_its_numbers(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again(run)
    monkeypatch.setattr(keeping, "POINT_VERSION", keeping.POINT_VERSION + 1)
    assert again(run) == 4
