"""How much of a report is shown, and on what."""

from dataclasses import dataclass
from enum import StrEnum


class Detail(StrEnum):
    """How much is said."""

    FINDINGS = "findings"
    USUAL = "usual"
    EVERYTHING = "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a report is shown. The formats for programs always hold everything and take no notice of it.

    `width` is that of the terminal in columns, or None where there is no terminal: nothing is shortened then.
    `every_layer` lists all layers, however many.
    """

    detail: Detail = Detail.USUAL
    every_layer: bool = False
    colour: bool = False
    width: int | None = None
