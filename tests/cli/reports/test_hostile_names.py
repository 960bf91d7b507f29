"""Names that do harm, in every format there is: none gets through, each is read by the format's own reader, and told.

A format that joins REPORTS is tried here by itself, and needs a reader in READERS.
"""

import csv
import io
import json
import re
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from jaynes_audit.analyzers.record import ReportRecord
from jaynes_audit.analyzers.record.texts import text
from jaynes_audit.cli.outputs import Format
from jaynes_audit.cli.reports.audits import REPORTS
from jaynes_audit.cli.reports.view import Detail, Show, View
from jaynes_audit.cli.visible import visible
from tests.support.gates import finding, gate, held, hostile_gate, model
from tests.support.hostile import HOSTILE

# https://docs.github.com/actions/reference/workflow-commands-for-github-actions
GITHUB_COMMAND = re.compile(r"::(error|warning|notice) ([^:]*)::(.*)")
GITHUB_ESCAPES = {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}

FEWEST_CHARACTERS = 500  # of a name, in a format with a limit of its own

Strings = Iterator[str]


def of_json(document: str) -> Strings:
    return strings(json.loads(document, parse_constant=pytest.fail))


def strings(value: object) -> Strings:
    match value:
        case str():
            yield value
        case dict():
            for key, each in value.items():
                yield key
                yield from strings(each)
        case list():
            for each in value:
                yield from strings(each)


def of_json_lines(document: str) -> Strings:
    for line in document.split("\n")[:-1]:
        yield from of_json(line)


def of_csv(document: str) -> Strings:
    header, *rows = csv.reader(io.StringIO(document))
    for row in rows:
        assert len(row) == len(header)
        yield from (cell.removeprefix("'") for cell in row)


def of_xml(document: str) -> Strings:
    for element in ET.fromstring(document).iter():  # noqa: S314 - our own
        yield from element.attrib.values()
        yield element.text or ""


class Words(HTMLParser):
    """The words of a page, and proof that no tag stands in it which is none of ours."""

    OURS = frozenset(
        [
            "h2",
            "p",
            "strong",
            "code",
            "table",
            "thead",
            "tbody",
            "tr",
            "th",
            "td",
            "ul",
            "li",
            "details",
            "summary",
            "sub",
        ]
    )

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.OURS
        assert dict(attrs).keys() <= {"style"}

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_comment(self, data: str) -> None:
        pytest.fail(data)


def of_markdown(document: str) -> Strings:
    page = Words()
    page.feed(MarkdownIt("commonmark", {"linkify": False}).enable("table").render(document))
    page.close()
    yield "".join(page.words)


def of_github(document: str) -> Strings:
    for line in filter(None, document.split("\n")):
        command = GITHUB_COMMAND.fullmatch(line)
        assert command, line
        for given in (command[2].split(","), [command[3]]):
            yield from (
                re.sub("|".join(GITHUB_ESCAPES), lambda found: GITHUB_ESCAPES[found[0]], each) for each in given
            )


def of_toml(document: str) -> Strings:
    for each in strings(tomllib.loads(document)):
        yield re.sub(r"\[([*?[])\]", r"\1", each)  # a shell pattern that means one name


READERS: dict[Format, Callable[[str], Strings]] = {
    Format.TABLE: lambda document: iter(document.split("\n")),
    Format.JSON: of_json,
    Format.JSONL: of_json_lines,
    Format.CSV: of_csv,
    Format.SARIF: of_json,
    Format.JUNIT: of_xml,
    Format.MARKDOWN: of_markdown,
    Format.GITHUB: of_github,
    Format.GITLAB: of_json,
    Format.IGNORES: of_toml,
}

VIEWS = {
    "usual": View(),
    "quiet": View(detail=Detail.FINDINGS, show=Show.IGNORED),
    "everything": View(detail=Detail.EVERYTHING, every_layer=True, show=Show.ALL),
    "narrow": View(width=80, show=Show.ALL),
}


@cache
def everything_hostile() -> ReportRecord:
    return hostile_gate()


def one_finding(name: str) -> ReportRecord:
    return gate(held(model(name), finding("JN101", name, f"it is called {name}, and has 1 NaN")))


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("form", REPORTS)
def test_no_hostile_name_gets_through(form: Format, view: View) -> None:
    document = REPORTS[form](everything_hostile(), view)
    assert all(line.isprintable() for line in document.split("\n"))
    document.encode()


@pytest.mark.parametrize("form", REPORTS)
def test_a_report_of_hostile_names_is_read_by_the_reader_of_its_format(form: Format) -> None:
    assert any(READERS[form](REPORTS[form](everything_hostile(), View())))


@pytest.mark.parametrize("name", HOSTILE, ids=lambda name: visible(name)[:30])
@pytest.mark.parametrize("form", REPORTS)
def test_a_hostile_name_is_told(form: Format, name: str) -> None:
    told = list(READERS[form](REPORTS[form](one_finding(name), View())))
    start = text(name)[:FEWEST_CHARACTERS]
    assert any(start in each or visible(start) in each for each in told)
