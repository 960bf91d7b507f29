"""The healthy checkpoints that faults are injected into."""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmarks.faults.files import read_safetensors
from benchmarks.faults.model import Model, cast

FIXTURES = Path(__file__).parents[2] / "fixtures"
FULL_PRECISION = "F32"


def healthy_models(networks: Path) -> Iterator[Model]:
    """Give the trained fixtures, and the networks of make_fault_networks.py trained and untrained, in float32."""
    babble = FIXTURES / "babble"
    initial = cast(read_safetensors(babble / "step0"), FULL_PRECISION)
    yield _model("babble", babble / "fp32", initial=initial)
    yield _model("babble, untrained", babble / "step0", trained=False)
    run = FIXTURES / "run"
    steps = [cast(read_safetensors(run / f"checkpoint-{step}"), FULL_PRECISION) for step in (300, 900)]
    yield _model("run, step 300", run / "checkpoint-300")
    yield _model("run, step 900", run / "checkpoint-900", earlier=tuple(steps[:1]))
    yield _model("run, step 3000", run / "checkpoint-3000", earlier=tuple(steps))
    digits = FIXTURES / "digits"
    yield _model("digits", digits / "model.safetensors", initial=read_safetensors(digits / "step0.safetensors"))
    for folder in sorted(each for each in networks.iterdir() if (each / "next").exists()):
        moments = {each: read_safetensors(folder / each) for each in ("initial", "middle", "previous", "next")}
        yield _model(
            folder.name,
            folder / "trained",
            initial=moments["initial"],
            earlier=(moments["middle"], moments["previous"]),
            following=moments["next"],
        )
        yield _model(f"{folder.name}, untrained", folder / "initial", trained=False)


def from_folder(name: str, folder: Path) -> Model:
    """Read one more healthy checkpoint, of which nothing else is known."""
    return _model(name, folder)


def _model(name: str, place: Path, *, trained: bool = True, **states: object) -> Model:
    config = (place if place.is_dir() else place.parent) / "config.json"
    known = {"initial": {}, "following": {}, **states}
    return Model(
        name=name,
        config=json.loads(config.read_text(encoding="utf-8")) if config.exists() else {},
        tensors=cast(read_safetensors(place), FULL_PRECISION),
        trained=trained,
        **known,
    )
