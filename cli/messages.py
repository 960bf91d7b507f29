"""What is said to the user beside the result: on the standard error, one sentence a line."""

import sys

from jaynes_audit.cli.visible import visible


def say(sentence: str) -> None:
    """Say one sentence."""
    sys.stderr.write(f"jaynes: {visible(sentence)}\n")
