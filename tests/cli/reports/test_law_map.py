"""The map of laws: layers stand where their sigma and skewness put them, among the laws of the ruler."""

from collections.abc import Iterator

from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.record import LayerRecord
from jaynes_audit.analyzers.record.fits import ruler_records
from jaynes_audit.analyzers.record.layers import layer_record
from jaynes_audit.cli.reports.law_map import LETTERS, law_map
from jaynes_audit.cli.reports.page import lines
from tests.support.audits import fit, layer

RULERS = ruler_records()


def layers(number: int, sigma: float, skewness: float) -> Iterator[LayerRecord]:
    for at in range(number):
        yield layer_record(layer(f"layers.{at}.weight", fitted=fit(sigma=sigma, skewness=skewness)))


def drawn(*shown: LayerRecord) -> list[str]:
    return ["".join(span.text for span in line) for line in lines(law_map(shown, RULERS), None)]


def test_every_law_of_the_ruler_has_a_letter_of_its_own_and_a_place() -> None:
    *canvas, _, key = drawn(*layers(1, 1.4, -0.3))
    assert len(set(LETTERS)) == len(LETTERS) == len(RULERS)
    for letter, ruler in zip(LETTERS, RULERS, strict=True):
        assert sum(row.count(letter) for row in canvas) == 1
        assert f"; {letter} {ruler.family};" in key


def test_layers_that_share_a_place_are_counted_and_many_are_a_nine() -> None:
    rows = drawn(*layers(3, 1.4, -0.3), *layers(12, 1.5, -0.3))
    [row] = [row for row in rows if "3" in row.partition("|")[2]]
    assert row.partition("|")[2].split() == ["3", "9"]


def test_a_lognormal_layer_stands_on_the_line_of_the_lognormals_right_of_narrower_ones() -> None:
    rows = drawn(*layers(1, 1.3, 0.0), *layers(2, 0.5, 0.0))
    [line] = [row for row in rows if "---" in row]
    assert line.index("2") < line.index("1", line.index("|"))


def test_layers_that_cover_a_law_are_seen_and_it_is_said() -> None:
    gaussian = RULERS[0]
    *canvas, _, key = drawn(*layers(4, gaussian.sigma, gaussian.skewness))
    assert sum("4" in row.partition("|")[2] for row in canvas) == 1
    assert key.endswith("digits: layers, which cover G")


def test_there_is_no_map_where_nothing_was_fitted() -> None:
    nothing = layer_record(layer("a.weight", fitted=NotFitted("every weight is zero or not finite")))
    assert drawn(nothing) == []
