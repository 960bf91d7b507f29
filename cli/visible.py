r"""Text from inside a checkpoint, made harmless. Everything that a writer puts out goes through here.

Tensor names, paths and sentences are a stranger's words. Control characters, terminal escapes, line breaks, marks that
turn the reading direction, invisible characters and lone surrogates come out as what they are: `\x1b`, `\n`, `\u202e`.
Each format's own markup is then escaped on top.
"""

import re

_NOT_ASCII = re.compile("[^\x00-\x7e]")  # includes DEL, the one control character beyond the printable ASCII ones
_MARKDOWN = re.compile(r"[\\`*_\[\]<>|~&@$#]|:(?=//)|(?<=www)\.", re.IGNORECASE)
_PLAIN_CODE = re.compile(r"[A-Za-z0-9_./\[\] -]*")
LARGEST_SHORT_CODE = 0xFFFF  # that four hexadecimal digits hold
_COMMAND = re.compile(r"##\[|^\s*::")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def visible(text: str) -> str:
    """The text on one line, with every character that does not print as an escape.

    Nor does it hold what GitHub's runner takes for a command in the output of a job: `##[` anywhere, `::` at the start.
    """
    if not text.isprintable():
        text = "".join(character if character.isprintable() else _escape(character) for character in text)
    if "##[" in text or "::" in text:
        text = _COMMAND.sub(lambda match: match[0][:-1] + _escape_printable(match[0][-1]), text)
    return text


def in_csv(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula."""
    cell = visible(text)
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def in_markdown(text: str) -> str:
    """The text as itself: no markup, no HTML, no link, no end of a table's cell."""
    return _MARKDOWN.sub(r"\\\g<0>", visible(text))


def code_in_markdown(text: str) -> str:
    """A name as code, where it holds nothing that could end the code; else as text."""
    return f"`{text}`" if text.strip() == text != "" and _PLAIN_CODE.fullmatch(text) else in_markdown(text)


def in_github(text: str) -> str:
    """The text as the message of a workflow command: on one line, and no command of its own."""
    return visible(text).replace("%", "%25")


def property_in_github(text: str) -> str:
    """The text as the value of one of a workflow command's properties."""
    return in_github(text).replace(":", "%3A").replace(",", "%2C")


def in_sarif(text: str) -> str:
    """The text as a SARIF message: no placeholder, and no link, whether the reader takes it for Markdown or not."""
    return visible(text).replace("{", "{{").replace("}", "}}").replace("](", "] (")


def in_json(document: str) -> str:
    r"""A JSON document that holds no character which does not print, but line breaks between its parts.

    Nothing is lost: the escapes are JSON's own (`\u202e`), and a reader gives back the text as it was.
    """
    if "##[" in document:
        document = document.replace("##[", "##\\u005b")
    if document.isascii() and "\x7f" not in document:
        return document  # JSON escapes the other control characters by itself
    return _NOT_ASCII.sub(lambda match: _json_escape(match[0]), document)


def in_toml(text: str) -> str:
    """The text as a basic string of TOML, in its quotes. A reader gives back the text as it was."""
    return f'"{"".join(map(_toml_escape, text))}"'.replace("##[", "##\\u005b")


def _toml_escape(character: str) -> str:
    if character in {'"', "\\"}:
        return f"\\{character}"
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code <= LARGEST_SHORT_CODE else f"\\U{code:08x}"


def _escape(character: str) -> str:
    named = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
    return named.get(character) or character.encode("unicode_escape", "backslashreplace").decode("ascii")


def _escape_printable(character: str) -> str:
    return f"\\x{ord(character):02x}"


def _json_escape(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
