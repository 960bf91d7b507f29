"""Numbers as a reader wants them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import SpreadRecord

BYTES_IN_KILO = 1000
BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
SHARE_WORTH_A_PERCENTAGE = 0.001
NONE = "-"


def count(number: int) -> str:
    """A count with its thousands apart."""
    return f"{number:,}"


def fixed(value: float | None, decimals: int) -> str:
    """A value with so many decimals, and no sign before a zero; a dash where there is none."""
    if value is None:
        return NONE
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def magnitude(value: float) -> str:
    """A magnitude of any size, to three digits."""
    return f"{value:#.3g}".removesuffix(".") if value else "0"


def middle(spread: "SpreadRecord | None", decimals: int) -> str:
    """The median of a spread."""
    return fixed(spread.median if spread else None, decimals)


def extent(spread: "SpreadRecord | None", decimals: int) -> str:
    """From the least to the greatest value of a spread, where they are two."""
    if spread is None or spread.least == spread.greatest:
        return NONE
    return f"{fixed(spread.least, decimals)} to {fixed(spread.greatest, decimals)}"


def share(part: int, whole: int) -> str:
    """A part of a count: as a number while it is small, in per cent when it is not."""
    if part == whole > 1:
        return "all"
    if part == 0 or part < SHARE_WORTH_A_PERCENTAGE * whole:
        return count(part)
    return f"{100 * part / whole:.1f}%"


def stored(size: int) -> str:
    """A size in bytes, with the largest unit that leaves at least one of it."""
    amount, unit = float(size), 0
    while amount >= BYTES_IN_KILO and unit < len(BYTE_UNITS) - 1:
        amount, unit = amount / BYTES_IN_KILO, unit + 1
    return f"{amount:.{1 if unit else 0}f} {BYTE_UNITS[unit]}"
