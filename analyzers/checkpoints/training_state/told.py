"""What the JSON and the pickles of a trainer tell, with everything in them taken for a stranger's word."""

import json
import math
from collections.abc import Mapping

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.pytorch.objects import Global, Record
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.errors import RefusedFile

LARGEST_JSON = 30_000_000  # bytes; a line of a trainer's log takes some 150, so these are 200,000 lines
LARGEST_COUNT = (1 << 63) - 1  # what a trainer's counters can hold
SAVE_AGAIN = "save the checkpoint again, or remove the file to do without it"


def read_json(path: Place) -> object:
    """The value in a JSON file; NaN and infinities are numbers in it, as Python writes them.

    Raises:
        RefusedFile: JN003 when it is no JSON, or larger than any honest one.
        CouldNotRead: when the machine does not let it be read.
    """
    with opened(path) as (stream, size):
        if size > LARGEST_JSON:
            raise bad(f"it has {size:,} bytes, above the limit of {LARGEST_JSON:,}", "json-too-large")
        content = stream.read(size)
    try:
        value: object = json.loads(content)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, a number of very many digits, or nested without end
        raise bad("it is not JSON", "json-broken") from None
    return value


def bad(fault: str, case: str) -> RefusedFile:
    """The refusal of a trainer's file that does not hold what its name promises."""
    return RefusedFile(f"{fault}; {SAVE_AGAIN}", rule="JN003", case=case)


def mapping(value: object) -> Mapping[object, object]:
    """The value where it is a mapping, and otherwise an empty one."""
    return value if isinstance(value, dict) else {}


def number(value: object) -> float | None:
    """The value where it is a finite number, which a boolean is not."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def positive(value: object) -> float | None:
    """The value where it is a finite number above zero."""
    found = number(value)
    return found if found is not None and found > 0 else None


def not_negative(value: object) -> float | None:
    """The value where it is a finite number of at least zero."""
    found = number(value)
    return found if found is not None and found >= 0 else None


def count(value: object) -> int | None:
    """The value where it counts something. A whole float counts too: Adam keeps its steps as one."""
    found = not_negative(value)
    if found is None or found != int(found) or found > LARGEST_COUNT:
        return None
    return int(found)


def word(value: object) -> str:
    """The value where it is text, or an entry of an enumeration as it is pickled; otherwise empty.

    Python before 3.12 may pickle such an entry as an attribute of its class, and then its name is given in small
    letters, which is how the trainers spell their values.
    """
    match value:
        case str():
            return value
        case Record(arguments=(str(text),)):
            return text
        case Record(callee=Global(module="builtins", name="getattr"), arguments=(Global(), str(name))):
            return name.lower()
        case _:
            return ""


def attributes(value: object) -> Mapping[object, object]:
    """The attributes of a pickled object, or the entries of a mapping."""
    match value:
        case Record(state=dict() as state):
            return state
        case _:
            return mapping(value)
