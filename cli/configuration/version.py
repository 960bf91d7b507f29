"""Whether this version of jaynes may read a configuration."""

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.errors import UsageError

LONGEST_SPECIFIER = 200


def check_version(required: str, installed: str, place: str) -> None:
    """Hold the installed version against a specifier such as `>=1.0,<2`, pre-releases included.

    Raises:
        UsageError: when the specifier has no meaning, or excludes what is installed.

    Source: "Version specifiers" in the Python packaging user guide.
    """
    from packaging.specifiers import SpecifierSet  # noqa: PLC0415 - hardly any file asks for it

    try:
        specifier = SpecifierSet(required if len(required) <= LONGEST_SPECIFIER else "none")
        is_met = specifier.contains(installed, prereleases=True)
    except ValueError:  # InvalidSpecifier is one
        raise UsageError(f"{place}: {quoted(required)} specifies no versions; write it as '>=1.0,<2'") from None
    if not is_met:
        raise UsageError(f"{place}: jaynes {quoted(required)} is required and this is {installed}; install such a one")
