"""How much of a report is shown, and on what."""

from dataclasses import dataclass
from enum import StrEnum


class Detail(StrEnum):
    """How much is said."""

    FINDINGS = "findings"
    USUAL = "usual"
    EVERYTHING = "everything"


class Show(StrEnum):
    """Which findings are listed: the new ones alone, or also those that are no news."""

    NEW = "new"
    BASELINED = "baselined"
    IGNORED = "ignored"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a report is shown. The formats for programs always hold everything and take no notice of it.

    `width` is that of the terminal in columns, or None where there is no terminal: nothing is shortened then.
    `every_layer` lists all layers and findings, however many.
    """

    detail: Detail = Detail.USUAL
    every_layer: bool = False
    colour: bool = False
    width: int | None = None
    show: Show = Show.NEW
