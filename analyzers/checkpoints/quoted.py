"""Text that a stranger chose, made safe to stand inside a sentence of ours."""

from collections.abc import Sequence

LONGEST_NAME = 80
LONGEST_PATH = 400  # a user must be able to read back the path that was typed


def quoted(text: str, *, longest: int = LONGEST_NAME) -> str:
    """The text in quotes, on one line, printable, and cut with an ellipsis after about `longest` characters.

    Line breaks, terminal escapes, marks that reverse the reading direction and lone surrogates come out as escapes.
    Markup of a report format (HTML, rich) is left alone: each report escapes its own.
    """
    literal = repr(text[: longest + 1])
    if len(literal) <= longest + 2:
        return literal
    return f"{literal[: longest + 1]}…{literal[0]}"


def quoted_path(path: object) -> str:
    """A file's path, quoted as `quoted` does and hardly ever cut."""
    return quoted(str(path), longest=LONGEST_PATH)


def listed(names: Sequence[str], *, most: int = 5, total: int = 0) -> str:
    """The first few names, quoted, as one phrase, then how many more there are.

    `total` is how many there are when `names` are only the first of them.
    """
    shown = ", ".join(quoted(name) for name in names[:most])
    more = max(total, len(names)) - most
    return f"{shown} and {more:,} more" if more > 0 else shown
