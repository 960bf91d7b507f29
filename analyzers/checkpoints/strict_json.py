"""JSON as RFC 8259 defines it and no more, with whatever it leaves open refused or kept in sight.

Python's own reader keeps the last of two equal keys, takes NaN for a number, and turns 2.0 or -0 into a value that no
longer shows how it was written. Two parsers that differ there disagree about which weights a file holds (Trail of
Bits, safetensors review 2023, TOB-SFTN-7). Here such things stay in the parsed value as `Repeated` and `OddNumber`,
so that the caller can say where they stand.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.errors import RefusedFile

DIGITS_OF_LARGEST_U64 = 20
EXCERPT = 20
JSON_BLANKS = " \t\r\n"


@dataclass(frozen=True, slots=True)
class OddNumber:
    """A number that is not a plain unsigned integer of at most 20 digits, exactly as it was written."""

    literal: str


@dataclass(frozen=True, slots=True)
class Repeated:
    """An object in which one key stands twice. It stands in the place of that object."""

    key: str


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object] | Repeated:
    unique = dict(pairs)
    if len(unique) == len(pairs):
        return unique
    return Repeated(Counter(key for key, _ in pairs).most_common(1)[0][0])


def _integer(literal: str) -> int | OddNumber:
    # Long runs of digits stay text: their conversion is quadratic, and Python may refuse it.
    if literal[0] != "-" and len(literal) <= DIGITS_OF_LARGEST_U64:
        return int(literal)
    return OddNumber(literal)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=OddNumber, parse_constant=OddNumber
)


def parse_strictly(text: str, *, what: str) -> tuple[object, str]:
    """The first JSON value of `text`, and whatever text follows it. `what` names the text in the sentences.

    Raises:
        RefusedFile: JN003, with a case of its own for each way in which hand-made JSON is usually wrong.
    """
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        case, fault, at = _fault_at(text, error)
        raise RefusedFile(
            f"the {what} is not JSON: {fault} at character {at:,}; write the file again with a current library",
            rule="JN003",
            case=case,
        ) from None
    except RecursionError:
        raise RefusedFile(
            f"the {what} nests lists or objects more deeply than any reader can follow, which only an attack does; "
            "do not load this file",
            rule="JN003",
            case="nesting-too-deep",
        ) from None
    return value, text[end:]


def _fault_at(text: str, error: json.JSONDecodeError) -> tuple[str, str, int]:
    """A case and a phrase for the place where Python's reader gave up; its own words differ between versions."""
    at = error.pos
    if error.msg.startswith("Invalid control character"):
        return "control-character", f"a raw control character ({quoted(text[at])}) stands inside a string", at
    before = text[max(0, at - EXCERPT) : at].rstrip(JSON_BLANKS)
    here = text[at : at + EXCERPT].lstrip(JSON_BLANKS)
    if not text[at:].strip(JSON_BLANKS) or error.msg.startswith("Unterminated string"):
        return "json-cut-off", "the text ends in the middle of a value", at
    if _TRAILING_COMMA.search(f"{before}{GAVE_UP}{here}"):
        # Python 3.13 gives the place of the comma, and earlier versions the place after it.
        return "json-trailing-comma", "a comma follows the last item", text.rindex(",", 0, at + 1)
    for case, pattern, fault in _FAULTS:
        if pattern.search(f"{before}{GAVE_UP}{here}"):
            return case, fault, at
    return "json-broken", f"{quoted(here)} has no place", at


GAVE_UP = "\0"
"""Marks in the patterns below where the reader stopped."""

_TRAILING_COMMA = re.compile(r",\0[}\]]|\0,\s*[}\]]")
_FAULTS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("json-single-quotes", re.compile("\0'"), "single quotes stand where JSON has double quotes"),
    ("json-comment", re.compile("\0(?:/[*/]|#)"), "there is a comment, which JSON does not have,"),
    ("leading-zero", re.compile("0\0[0-9]"), "a number has a leading zero"),
)


def kind_of(value: object) -> str:
    """What a parsed JSON value is, in words, without its content: that may be large or nested."""
    if isinstance(value, OddNumber):
        return f"the number {quoted(value.literal, longest=EXCERPT)[1:-1]}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _KINDS[type(value)]


_KINDS: dict[type, str] = {
    str: "a string",
    int: "a number",
    list: "a list",
    dict: "an object",
    Repeated: "an object",
    type(None): "null",
}
