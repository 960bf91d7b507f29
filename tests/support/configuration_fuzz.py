"""How a configuration file is tried: other keys, values and shapes in it, understood, shown, and read again.

For a long run: `python -m tests.support.fuzzing configuration --inputs 1000000 --seed 7`.
"""

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli.configuration.discovery import OWN_FILE
from jaynes_audit.cli.configuration.merging import Effective, effective_of
from jaynes_audit.cli.configuration.options import Options
from jaynes_audit.cli.configuration.shown import shown
from tests.support.fuzzing import Fuzz

LONGEST_SENTENCE = 2000  # paths of 400 characters, names of 80, and the words around them

EVERYTHING = b"""\
required-version = ">=0.0"
targets = ["export/", "org/name", "runs/*/", "hf://org/name@main/sub"]
baseline = "origin/main:baselines/{name}.jaynes.jsonl"
require-base-ref = true
fail-on = "warning"
output = ["table", "sarif=out/jaynes.sarif"]
select = ["JN1", "JN401"]
extend-select = ["JN406"]
ignore-rule = ["JN103"]
preview = true
allow-pickle = "never"

[severity]
JN403 = "error"
JN101 = "note"

[thresholds]
ks-distance = 0.12
sigma-rel = 2

[expect]
dtype = "bf16"
changed = ["*.mlp.*"]

[[override]]
tensor = "*.embed_tokens.*"
thresholds = { dead-rows = 0.3 }

[[ignore]]
rule = "JN102"
tensor = "*.router.bias"
reason = "zero by design"
until = 2027-03-31

[[ignore]]
rule = "JN4"
tensor = "*"
reason = "b\\u00e9b\\u00e9"
"""

KEYS = (
    *(b"required-version", b"targets", b"baseline", b"require-base-ref", b"fail-on", b"output", b"select", b"preview"),
    *(b"extend-select", b"ignore-rule", b"allow-pickle", b"severity", b"thresholds", b"expect", b"override", b"ignore"),
    *(
        b"rule",
        b"tensor",
        b"reason",
        b"until",
        b"dtype",
        b"changed",
        b"JN101",
        b"sigma-rel",
        b"a.b",
        b'""',
        b'"\\u0000"',
    ),
    *(b'"x\\u001b[2J"', b"'` - at `$.x`'", b"severity.JN101", b"expect.dtype", b"thresholds.mu-abs", b"a" * 3000),
)
VALUES = (
    *(
        b"1",
        b"0",
        b"-1",
        b"true",
        b"inf",
        b"-inf",
        b"nan",
        b"1e400",
        b"-0.0",
        b"9" * 4000,
        b"9" * 5000,
        b"0x" + b"f" * 300,
    ),
    *(b"0x" + b"f" * 9000, b"0b1", b"1979-05-27", b"2027-02-30", b"1979-05-27T07:32:00Z", b"07:32:00", b"0001-01-01"),
    *(
        b'""',
        b'" "',
        b'"\\u0000"',
        b'"\\U0010ffff"',
        b'"\\u202e"',
        b'"JN1"',
        b'"jn101"',
        b'"JN"',
        b'"error"',
        b'"Error"',
    ),
    *(
        b'"F16"',
        b'"table=x"',
        b'"json=-"',
        b'"json="',
        b'"a:b:c"',
        b'":"',
        b'"-"',
        b'"/"',
        b'"../.."',
        b'"**"',
        b'"[a-"',
    ),
    *(b'">=0,<9"', b'"=="', b'"===x"', b'"' + b"9" * 5000 + b'"', b'">=' + b"9" * 5000 + b'"', b'"hf://"', b'"a/b@c"'),
    *(
        b"[]",
        b"{}",
        b"[1]",
        b'[""]',
        b'["JN4", "JN4"]',
        b"[[]]",
        b"{ a = 1 }",
        b"{ dead-rows = 1 }",
        b"[{}]",
        b"'''\n'''",
    ),
)
FRAGMENTS = (
    *(
        b"[severity]\n",
        b"[[ignore]]\n",
        b"[[override]]\n",
        b"[ignore]\n",
        b"[tool.jaynes]\n",
        b"[[thresholds]]\n",
        b"\r\n",
    ),
    *(
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b'"',
        b"'''",
        b"#",
        b"=",
        b"[" * 30,
        b"[" * 5000,
        b"{a=" * 3000,
    ),
    *(
        b".".join([b"a"] * 90) + b"=1\n",
        b".".join([b"a"] * 9000) + b"=1\n",
        b"a=1\n" * 3,
        b"x" * 3000,
        b"\xf0\x9f\xa6\x8a",
    ),
)


def corpus() -> Sequence[bytes]:
    """A file with every key, one with few, and an empty one."""
    return (
        EVERYTHING,
        EVERYTHING,
        b'targets = ["export/"]\n[[ignore]]\nrule = "JN1"\ntensor = "a"\nreason = "b"\n',
        b"\n",
    )


def change_value(content: bytearray, dice: random.Random) -> None:
    """A line's value becomes another."""
    _change_line(content, dice, lambda key, _: key + b"= " + dice.choice(VALUES))


def change_key(content: bytearray, dice: random.Random) -> None:
    """A line's key becomes another."""
    _change_line(content, dice, lambda _, value: dice.choice(KEYS) + b" =" + value)


def add_line(content: bytearray, dice: random.Random) -> None:
    """A line comes in."""
    lines = content.split(b"\n")
    lines.insert(dice.randrange(len(lines) + 1), bytearray(dice.choice(KEYS) + b" = " + dice.choice(VALUES)))
    content[:] = b"\n".join(lines)


def move_line(content: bytearray, dice: random.Random) -> None:
    """A line goes to another place, or stands there as well."""
    lines = content.split(b"\n")
    line = dice.choice(lines)
    if dice.random() < 0.5:
        lines.remove(line)
    lines.insert(dice.randrange(len(lines) + 1), line)
    content[:] = b"\n".join(lines)


def add_fragment(content: bytearray, dice: random.Random) -> None:
    """Something comes in that means something, or nothing, to TOML."""
    at = dice.randrange(len(content) + 1)
    content[at:at] = dice.choice(FRAGMENTS)


def _change_line(content: bytearray, dice: random.Random, change: Callable[[bytes, bytes], bytes]) -> None:
    lines = content.split(b"\n")
    numbers = [number for number, line in enumerate(lines) if b"=" in line]
    if numbers:
        number = dice.choice(numbers)
        key, _, value = lines[number].partition(b"=")
        lines[number] = bytearray(change(key, value))
        content[:] = b"\n".join(lines)


@cache
def _folder() -> tuple[TemporaryDirectory[str], Path]:
    kept = TemporaryDirectory()
    folder = Path(kept.name).resolve()
    (folder / "sub").mkdir()
    (folder / ".git").mkdir()
    return kept, folder


def read(content: bytes) -> None:
    """Understand the file from its own folder and from one below, and read what is shown of it again."""
    folder = _folder()[1]
    (folder / OWN_FILE).write_bytes(content)
    try:
        effective = effective_of(Options(targets=["elsewhere"]), {}, folder)
        effective_of(Options(), {}, folder / "sub")
    except UsageError as error:
        _check(str(error))
        raise
    _show_and_read_again(effective, folder)


def _show_and_read_again(effective: Effective, folder: Path) -> None:
    text = shown(effective)
    assert all(character.isprintable() or character == "\n" for character in text)
    (folder / OWN_FILE).write_text(text, encoding="utf-8")
    again = effective_of(Options(targets=["elsewhere"]), {}, folder)
    assert again.policy == effective.policy
    assert again.configuration.targets == effective.configuration.targets


def _check(sentence: str) -> None:
    assert sentence.isprintable(), sentence
    assert len(sentence) < LONGEST_SENTENCE, sentence


FUZZ = Fuzz(
    corpus=corpus, read=read, damages=(change_value, change_value, change_key, add_line, move_line, add_fragment)
)
