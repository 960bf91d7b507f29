"""Lines -> text with terminal colours. Only our own tones become escapes; the text itself has none left."""

from rich.color import ColorSystem
from rich.style import Style

from jaynes_audit.cli.reports.page import Line, Tone

STYLES = {
    Tone.STRONG: Style(bold=True),
    Tone.QUIET: Style(dim=True),
    Tone.ERROR: Style(color="red", bold=True),
    Tone.WARNING: Style(color="yellow", bold=True),
    Tone.NOTE: Style(color="cyan"),
}


def painted(line: Line) -> str:
    """The line in the terminal's own sixteen colours, which its user has chosen."""
    return "".join(
        STYLES[span.tone].render(span.text, color_system=ColorSystem.STANDARD) if span.tone in STYLES else span.text
        for span in line
    )
