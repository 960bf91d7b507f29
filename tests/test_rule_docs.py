"""Every rule is documented in one place, and each page that shows rules is made from there."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from jaynes_audit.analyzers.rules import RULES, Rule
from jaynes_audit.analyzers.rules.thresholds import every_threshold
from jaynes_audit.cli.reports import rule_pages

ROOT = Path(__file__).parent.parent
BREAK = Token("softbreak", "br", 0)
ANY_RULE = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)


def plain(text: str) -> str:
    """The words alone, as one line."""
    return " ".join(text.replace("`", "").replace("*", "").split())


def test_the_page_of_rules_is_what_the_command_prints() -> None:
    printed = rule_pages.markdown_book(RULES)
    written = (ROOT / "docs/rules.md").read_text()
    assert written == printed, "run `jaynes rule --all --format markdown > docs/rules.md`"


def test_the_readme_has_the_table_that_the_command_prints() -> None:
    [table] = re.findall(r"<!-- rules -->\n\n(.*?)\n<!-- end of rules -->", (ROOT / "README.md").read_text(), re.DOTALL)
    printed = rule_pages.markdown_list(RULES)
    assert table == printed, "put what `jaynes rule --format markdown` prints between the README's marks"


def test_the_page_reads_as_it_was_written() -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(rule_pages.markdown_book(RULES))
    parts = [part for each in tokens if each.children for part in (*each.children, BREAK)]
    shown = plain("".join(" " if part.type == BREAK.type else part.content for part in parts))
    for rule in RULES:
        for part in (rule.what, rule.why, rule.remedy):
            assert plain(part) in shown, rule.code


def test_the_tables_have_a_row_for_every_rule() -> None:
    rows = rule_pages.markdown_list(RULES).splitlines()[2:]
    assert len(rows) == len(rule_pages.text_list(RULES).splitlines()) == len(RULES)
    assert all(len(re.split(r"(?<!\\)\|", row)) == 5 for row in rows)


def test_no_two_rules_share_a_code_or_a_name() -> None:
    assert len({rule.code for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)


@ANY_RULE
def test_every_rule_is_documented_in_four_parts(rule: Rule) -> None:
    assert all([rule.what, rule.why, rule.remedy, rule.example])
    headings = re.findall(r"^(Why it matters|What to do|Example):", rule.documentation, re.MULTILINE)
    assert headings == ["Why it matters", "What to do", "Example"]


@ANY_RULE
def test_an_example_names_what_it_is_about(rule: Rule) -> None:
    subject, separator, sentence = rule.example.partition(": ")
    assert separator
    assert subject
    assert sentence


@ANY_RULE
def test_a_headline_is_one_whole_sentence(rule: Rule) -> None:
    assert rule_pages.headline(rule).endswith(".")
    assert len(rule_pages.headline(rule)) < 200


def test_every_threshold_is_shown_with_a_rule_that_exists() -> None:
    shown = {threshold.name for rule in RULES for threshold in rule_pages.thresholds_of(rule)}
    assert shown == {threshold.name for threshold in every_threshold()}
    codes = {code for threshold in every_threshold() for code in re.findall(r"JN\d{3}", threshold.meaning)}
    assert codes <= {rule.code for rule in RULES}


def test_every_group_of_codes_has_a_title() -> None:
    assert {rule.code[:3] for rule in RULES} == set(rule_pages.GROUPS)
