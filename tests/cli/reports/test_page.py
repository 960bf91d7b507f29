from jaynes_audit.cli.reports.page import Column, Grid, Omissions, Row, Span, Tone, lines, sentence

GRID = Grid(
    columns=(
        Column(title="name", right=False, names=True),
        Column(title="weights", rank=2),
        Column(title="zeros", rank=1),
        Column(title="mu"),
    ),
    rows=(
        Row(("model.layers.0.self_attn.q_proj.weight", "65,536", "0", "-3.500")),
        Row(("重み", "4", "12.0%", "0.100")),
    ),
)


def text(blocks, width=None) -> list[str]:
    return ["".join(span.text for span in line) for line in lines(blocks, width)]


def test_without_a_width_nothing_is_shortened_and_columns_line_up() -> None:
    assert text([GRID]) == [
        "name                                    weights  zeros      mu",
        "model.layers.0.self_attn.q_proj.weight   65,536      0  -3.500",
        "重み                                          4  12.0%   0.100",
    ]


def test_the_least_important_columns_go_first_and_it_is_said() -> None:
    assert text([GRID, Omissions()], 54) == [
        "name                                    zeros      mu",
        "model.layers.0.self_attn.q_proj.weight      0  -3.500",
        "重み                                    12.0%   0.100",
        "Some tables have no room here for: weights. A wider",
        "terminal or a file has them.",
        "",
    ]


def test_then_names_keep_their_beginning_and_their_end() -> None:
    assert text([GRID], 30) == [
        "name                        mu",
        "model.l….q_proj.weight  -3.500",
        "重み                     0.100",
    ]


def test_after_the_names_other_words_are_shortened_and_numbers_never_are() -> None:
    words = Column(title="law", right=False)
    laws = Grid(
        columns=(*GRID.columns[:1], words, *GRID.columns[-1:]),
        rows=(Row((GRID.rows[0].cells[0], "2 Gaussian, 1 generalised normal, 1 undecided", "-3.500")),),
    )
    assert text([laws], 60) == [
        "name                  law                                 mu",
        "model.l…_proj.weight  2 Gaussian…normal, 1 undecided  -3.500",
    ]


def test_sentences_break_between_words_and_hang_by_their_indent() -> None:
    said = sentence(Span("error  ", Tone.ERROR), "the file ends before its data", indent=7)
    assert text([said], 20) == ["error  the file ends", "       before its", "       data"]


def test_nothing_gets_onto_a_page_that_does_not_print() -> None:
    assert Span("a\x1b[2J\nb").text == r"a\x1b[2J\nb"
