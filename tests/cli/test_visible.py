import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.cli.visible import code_in_markdown, in_csv, in_json, in_markdown, visible


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("two\nlines\r\tend", r"two\nlines\r\tend"),
        ("safe\u202etxt.exe", r"safe\u202etxt.exe"),
        ("zero\u200bwidth", r"zero\u200bwidth"),
        ("lone\udc80", r"lone\udc80"),
        ("\x9bcontrol", r"\x9bcontrol"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("größer 重み", "größer 重み"),
        ("a##[stop-commands]x", r"a##\x5bstop-commands]x"),
        ("::error::x", r":\x3aerror::x"),
        ("\x1f ::error::x", r"\x1f ::error::x"),
        ("  ::error::x", r"  :\x3aerror::x"),
        ("std::vector", "std::vector"),
    ],
)
def test_what_does_not_print_is_shown_for_what_it_is(hostile: str, shown: str) -> None:
    assert visible(hostile) == shown


@given(st.text(st.characters()))
def test_every_text_comes_out_printable(text: str) -> None:
    assert all(made(text).isprintable() for made in (visible, in_csv, in_markdown, code_in_markdown))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_keeps_every_text_and_shows_no_character_that_does_not_print(text: str) -> None:
    document = in_json(json.dumps(text, ensure_ascii=False))
    assert document.isprintable()
    assert json.loads(document) == text


@pytest.mark.parametrize("formula", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_a_formula_is_no_formula_in_csv(formula: str) -> None:
    assert in_csv(formula) == f"'{formula}"


def test_markup_is_text_in_markdown() -> None:
    assert in_markdown("<b>*x*|[a](b)`c`</b>") == r"\<b\>\*x\*\|\[a\](b)\`c\`\</b\>"
    assert in_markdown("https://evil.example www.evil.example") == r"https\://evil.example www\.evil.example"


def test_a_plain_name_is_code_in_markdown_and_a_strange_one_is_text() -> None:
    assert code_in_markdown("model.layers.0.q_proj.weight") == "`model.layers.0.q_proj.weight`"
    assert code_in_markdown("`; rm -rf | x") == r"\`; rm -rf \| x"
