"""The documentation keeps up with the code."""

import re
from pathlib import Path

import pytest

from jaynes_audit.cli.outputs import Format

DOCS = Path(__file__).parent.parent / "docs"
REPORT = (DOCS / "report.md").read_text()


@pytest.mark.parametrize("output_format", Format)
def test_every_format_is_described(output_format: Format) -> None:
    assert f"`{output_format}`" in REPORT


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", page.read_text()):
        linked = DOCS / target if target else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
