"""The file of a baseline: equal models give equal bytes, what is written is read again, and nothing else is."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.baseline.entry import QUANTILE_PROBABILITIES, Baseline, Entry, FileDigest, Known, Law
from jaynes_audit.analyzers.baseline.keeping import place_in_file, short
from jaynes_audit.analyzers.baseline.text import baseline_schema, from_text, to_text, verify
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.sketch.probe import PROJECTIONS, Probe
from tests.support.baseline_fuzz import FUZZ
from tests.support.baselines import baseline_at, measured, network
from tests.support.fuzzing import survive

FIXTURES = Path(__file__).parents[3] / "fixtures"
ROUNDS = int(os.environ.get("JAYNES_FUZZ_ROUNDS", "1500"))
PLACE = "model.jaynes.jsonl"

texts = st.text(max_size=20)
counts = st.integers(0, 100)
numbers = st.floats(-700, 700).map(short)
shares = st.floats(-1, 1).map(short)
magnitudes = st.floats(0, 1.7e308).map(short)


@st.composite
def laws(draw: st.DrawFn) -> Law:
    errors = draw(st.none() | st.tuples(magnitudes, magnitudes))
    return Law(
        mu=draw(numbers),
        sigma=abs(draw(numbers)),
        skewness=draw(numbers),
        se_mu=errors[0] if errors else None,
        se_sigma=errors[1] if errors else None,
        quantiles=tuple(sorted(draw(st.lists(numbers, min_size=17, max_size=17)))),
    )


@st.composite
def probes(draw: st.DrawFn) -> Probe:
    axis = st.tuples(*[shares] * PROJECTIONS)
    return Probe(rows=draw(axis), columns=draw(axis), noise=abs(draw(shares)))


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    return Entry(
        name=draw(texts),
        role=draw(st.sampled_from(Role)),
        stack=draw(texts),
        depth=draw(st.none() | counts),
        rows=draw(counts),
        columns=draw(counts),
        fan_in=draw(counts),
        fan_out=draw(counts),
        dtype=draw(st.sampled_from(["F32", "BF16", "Q4_K", "FP8-128x128"])),
        unused_bits=draw(st.integers(0, 52)),
        weights=draw(st.integers(100, 1 << 62)),
        zero=draw(counts),
        subnormal=draw(counts),
        negative=draw(counts),
        not_finite=draw(counts),
        largest=draw(magnitudes),
        rms=draw(magnitudes),
        law=draw(st.none() | laws()),
        probe=draw(st.none() | probes()),
        content=f"{draw(st.integers(0, (1 << 128) - 1)):032x}",
    )


@st.composite
def baselines(draw: st.DrawFn) -> Baseline:
    found = draw(st.lists(entries(), max_size=4, unique_by=lambda entry: entry.name))
    files = draw(st.sets(texts, max_size=2))
    known = draw(st.lists(st.builds(Known, rule=st.sampled_from(["JN101", "JN302"]), subject=texts), max_size=3))
    return Baseline(
        model=draw(texts),
        revision=draw(texts),
        statistics=draw(st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,4})?", fullmatch=True).filter(str.isascii)),
        reason=draw(texts),
        entries=tuple(sorted(found, key=lambda entry: place_in_file(entry.name))),
        known=tuple(sorted(set(known), key=lambda each: (each.rule, place_in_file(each.subject)))),
        files=tuple(FileDigest(name=name, sha256=f"{len(name):064x}") for name in sorted(files, key=place_in_file)),
    )


@given(baselines())
def test_what_is_written_is_read_again(baseline: Baseline) -> None:
    content = to_text(baseline).encode()
    stored = from_text(content, PLACE)
    assert stored.baseline == baseline
    assert verify(content, PLACE) == []
    assert to_text(stored.baseline).encode() == content
    lines = content.decode().split("\n")
    assert {name: json.loads(lines[line - 1])["layer"] for name, line in stored.lines.items()} == {
        entry.name: entry.name for entry in baseline.entries
    }


@given(baselines())
def test_every_line_fits_the_schema(baseline: Baseline) -> None:
    validator = jsonschema.Draft202012Validator(baseline_schema())
    for line in to_text(baseline).split("\n")[:-1]:
        validator.validate(json.loads(line))


def test_the_schema_refuses_other_lines() -> None:
    validator = jsonschema.Draft202012Validator(baseline_schema())
    for line in ({}, {"format": "jaynes-baseline/2"}, {"rule": "JN101"}, {"rule": "JN101", "subject": "a", "b": 1}, []):
        assert not validator.is_valid(line)


def test_the_file_is_as_documented(tmp_path: Path) -> None:
    content = to_text(measured(tmp_path, network(blocks=11))).encode()
    assert content.isascii()
    assert b"\r" not in content
    assert content.endswith(b"}\n")
    header, *layers = map(json.loads, content.splitlines())
    assert header["format"] == "jaynes-baseline/1"
    assert header["layers"] == len(layers) == 34
    without = content.replace(header["digest"].encode(), b"0" * 64, 1)
    assert header["digest"] == hashlib.sha256(without).hexdigest()
    blocks = [layer["layer"].split(".")[2] for layer in layers if "o_proj" in layer["layer"]]
    assert blocks == [str(block) for block in range(11)]
    for layer in layers:
        assert len(layer["q"]) == len(QUANTILE_PROBABILITIES) == 17
        assert all(float(f"{quantile:.6g}") == quantile for quantile in layer["q"])


def test_equal_models_give_equal_bytes(tmp_path: Path) -> None:
    first = to_text(measured(tmp_path, network()))
    assert to_text(measured(tmp_path, network())) == first
    assert to_text(measured(tmp_path, dict(reversed(network().items())))) == first


def test_a_layer_that_changed_is_one_line_that_changed(tmp_path: Path) -> None:
    name = "model.layers.2.mlp.up_proj.weight"
    before = to_text(measured(tmp_path, network())).splitlines()[1:]
    now = to_text(measured(tmp_path, network() | {name: network()[name] * 2})).splitlines()[1:]
    [(old, new)] = [(old, new) for old, new in zip(before, now, strict=True) if old != new]
    assert json.loads(old)["layer"] == json.loads(new)["layer"] == name


def test_a_layer_takes_about_half_a_kilobyte() -> None:
    baseline = baseline_at(FIXTURES / "babble" / "bf16")
    assert 300 < len(to_text(baseline)) / len(baseline.entries) < 700


def sound() -> bytes:
    entry = Entry(
        name="a.weight",
        role=Role.MLP_UP,
        stack="",
        depth=0,
        rows=2,
        columns=2,
        fan_in=2,
        fan_out=2,
        dtype="F32",
        unused_bits=0,
        weights=4,
        zero=0,
        subnormal=0,
        negative=0,
        not_finite=0,
        largest=1.0,
        rms=1.0,
        law=None,
        probe=None,
        content="0" * 32,
    )
    known = (Known(rule="JN101", subject="a.weight"), Known(rule="JN103", subject="a.weight"))
    return to_text(
        Baseline(
            model="a",
            revision="",
            statistics="1",
            entries=(entry, replace(entry, name="b.weight", content="1" * 32)),
            known=known,
        )
    ).encode()


def sealed(lines: list[bytes]) -> bytes:
    """The lines with the digest that belongs to them."""
    header = json.loads(lines[0]) | {"digest": "0" * 64}
    unsealed = b"".join([json.dumps(header, separators=(",", ":")).encode(), b"\n", *lines[1:]])
    header["digest"] = hashlib.sha256(unsealed).hexdigest()
    return b"".join([json.dumps(header, separators=(",", ":")).encode() + b"\n", *lines[1:]])


def with_lines(change: Callable[[list[bytes]], object]) -> bytes:
    lines = sound().splitlines(keepends=True)
    change(lines)
    return sealed(lines)


def with_files(files: dict[str, str]) -> bytes:
    lines = sound().splitlines(keepends=True)
    return sealed([json.dumps(json.loads(lines[0]) | {"files": files}).encode(), *lines[1:]])


DAMAGED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "cut": (sound()[:-3], "it ends in the middle of a line"),
    "of Windows": (sound().replace(b"\n", b"\r\n"), "*.jaynes.jsonl -text"),
    "merged": (b"<<<<<<< HEAD\n" + sound(), "line 1: it is the mark of a merge conflict"),
    "merged below": (with_lines(lambda lines: lines.insert(2, b"<<<<<<< ours\n")), "line 3: it is the mark of a merge"),
    "no json": (b"hello\n", "line 1: it is no baseline"),
    "an index": (b'{"weight_map":{}}\n', "line 1: it is no baseline"),
    "of tomorrow": (
        sound().replace(b"baseline/1", b"baseline/2"),
        "its format is 'jaynes-baseline/2', and this version",
    ),
    "a report": (b'{"format":"jaynes-report/2"}\n', "its format is 'jaynes-report/2'"),
    "nested": (b"[" * 100_000 + b"\n", "it is no baseline"),
    "changed by hand": (
        sound().replace(b'"largest":1.0', b'"largest":2.0'),
        "line 1: its lines are not those that its",
    ),
    "too few layers": (with_lines(lambda lines: lines.pop(1)), "promises 2 layers, and it has 1"),
    "out of order": (
        with_lines(lambda lines: lines.insert(1, lines.pop(2))),
        "line 3: the layer 'a.weight' belongs before",
    ),
    "twice": (
        with_lines(lambda lines: lines.insert(1, lines[1])),
        "line 3: the layer 'a.weight' stands on line 2 already",
    ),
    "findings twice": (with_lines(lambda lines: lines.append(lines[-1])), "its findings are not in order, or one"),
    "findings first": (with_lines(lambda lines: lines.insert(1, lines.pop())), "line 3: a layer stands behind the"),
    "an unknown field": (
        with_lines(lambda lines: lines.insert(1, lines.pop(1).replace(b'"rms"', b'"rsm"'))),
        "line 2: it is not as jaynes writes it",
    ),
    "a number that is none": (
        with_lines(lambda lines: lines.insert(1, lines.pop(1).replace(b'"rms":1.0', b'"rms":NaN'))),
        "line 2: it is not as jaynes writes it",
    ),
    "more zeros than weights": (
        with_lines(lambda lines: lines.insert(1, lines.pop(1).replace(b'"n":4', b'"n":4,"zero":5'))),
        "it counts more weights of a kind than there are",
    ),
    "half a law": (
        with_lines(lambda lines: lines.insert(1, lines.pop(1).replace(b'"n":4', b'"n":4,"mu":1.0'))),
        "of mu, sigma, skewness and quantiles it has some and not all",
    ),
    "files out of order": (with_files({"b": "0" * 64, "a": "0" * 64}), "line 1: its files are not in order"),
    "a hash that is none": (with_files({"a": "0" * 63}), "line 1: it is not as jaynes writes it"),
    "an escape": (
        with_lines(lambda lines: lines.insert(1, lines.pop(1).replace(b'"rms"', b'"\\u001b[2J"'))),
        "line 2: it is not as jaynes writes it",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_refused_in_words_with_its_line(damage: str) -> None:
    content, words = DAMAGED[damage]
    with pytest.raises(UsageError) as refusal:
        from_text(content, PLACE)
    assert words in str(refusal.value)
    assert str(refusal.value).startswith(f"'{PLACE}'")
    assert str(refusal.value).isprintable()
    assert any(words in problem for problem in verify(content, PLACE))


def test_verifying_tells_every_problem_and_not_for_ever() -> None:
    layer = sound().splitlines(keepends=True)[1]
    both = with_lines(lambda lines: lines.extend([b"x\n", layer]))
    assert [problem.split(":")[0] for problem in verify(both, PLACE)] == [f"'{PLACE}', line 6", f"'{PLACE}', line 7"]
    many = verify(with_lines(lambda lines: lines.extend([b"x\n"] * 1000)), PLACE)
    assert len(many) == 101
    assert many[-1] == "there are more problems"


def test_every_damaged_file_is_read_or_refused() -> None:
    ends, faults = survive(FUZZ, inputs=ROUNDS, seed=20_261)
    assert faults == []
    assert ends["accepted"] > ROUNDS / 50, "the damage leaves too few files sound to be compared"
