"""The settings files that stand beside weights. What is wrong with one is remarked on and stops nothing."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.reading import opened
from jaynes_audit.analyzers.errors import JaynesError

LARGEST_CONFIG = 10_000_000  # bytes; the largest honest ones carry label names and stay below 2 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A parsed settings file, empty when there is none or it cannot be used; `remarks` then says why."""

    values: Mapping[str, object] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def read_config(path: Place) -> Config:
    """The JSON object in the file at `path`."""
    try:
        with opened(path) as (stream, size):
            if size > LARGEST_CONFIG:
                return _unusable(path, f"has more than {LARGEST_CONFIG:,} bytes")
            values = json.loads(stream.read(size))
    except JaynesError as error:
        return _unusable(path, f"could not be read ({error})")
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or nested without end
        return _unusable(path, "is not JSON")
    if not isinstance(values, dict):
        return _unusable(path, "is not a JSON object")
    return Config(values=values)


def _unusable(path: Place, fault: str) -> Config:
    return Config(remarks=(f"{quoted(path.name)} {fault} and was not used",))
