"""Names that a stranger chose, inside our sentences."""

from hypothesis import given
from hypothesis import strategies as st

from jaynes_audit.analyzers.checkpoints.quoted import LONGEST_NAME, listed, quoted

any_text = st.text(st.characters(), max_size=300)  # lone surrogates too


@given(any_text)
def test_a_quoted_name_is_one_short_printable_line(name: str) -> None:
    assert quoted(name).isprintable()
    assert len(quoted(name)) <= LONGEST_NAME + 4


def test_a_plain_name_stands_as_it_is() -> None:
    assert quoted("model.layers.0.mlp.down_proj.weight") == "'model.layers.0.mlp.down_proj.weight'"


def test_a_cut_name_shows_that_it_was_cut() -> None:
    assert quoted("x" * 500) == f"'{'x' * 80}…'"


def test_marks_that_change_how_a_line_reads_are_spelt_out() -> None:
    assert quoted("a\u202eb\x1b[2J") == r"'a\u202eb\x1b[2J'"


def test_a_long_list_names_the_first_and_counts_the_rest() -> None:
    assert listed(["a", "b", "c"], most=2) == "'a', 'b' and 1 more"
    assert listed(["a", "b"], most=2) == "'a', 'b'"
    assert listed(["a", "b"], most=2, total=1_000_000) == "'a', 'b' and 999,998 more"
