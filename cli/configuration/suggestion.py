"""What somebody who mistyped a name may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches

from jaynes_audit.analyzers.checkpoints.quoted import quoted

MOST_LISTED = 12  # more choices are not a help but a page


def suggestion(name: str, choices: Iterable[str]) -> str:
    """Say which choice is closest to a name that is none, or else which there are, if they are few."""
    by_lower_case = {choice.lower(): choice for choice in sorted(choices, reverse=True)}
    close = get_close_matches(name.lower(), by_lower_case, n=1)
    if close:
        return f"did you mean {quoted(by_lower_case[close[0]])}?"
    if len(by_lower_case) <= MOST_LISTED:
        return f"choose from {', '.join(sorted(by_lower_case.values()))}"
    return "correct it"
