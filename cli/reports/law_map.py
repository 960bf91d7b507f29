"""A map of laws in plain characters: each has its place by sigma and skewness of ln|w|, which no scale changes.

Cumulants of ln|w| add under products (second-kind statistics, Nicolas 2002), so families are points or curves of this
map, and layers that drift off the Gaussian's point show where they go.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from jaynes_audit.cli.reports.figures import fixed
from jaynes_audit.cli.reports.page import Sentence, Span, Tone, sentence

if TYPE_CHECKING:
    from jaynes_audit.analyzers.record import LayerRecord, RulerRecord

WIDTH, HEIGHT = 64, 16  # characters
LETTERS = "GCULTSRQP"  # of the rulers, in their order
LOGNORMAL = "-"
MANY = 9
SIGMAS, SKEWNESSES = (0.3, 3.0), (-3.0, 1.5)  # beyond these one layer would press all others into a corner
ROOM = 0.05  # of the range, beyond the outermost points

Point = tuple[float, float]


def law_map(layers: "Sequence[LayerRecord]", rulers: "Sequence[RulerRecord]") -> Iterator[Sentence]:
    """Draw the layers among the laws of the ruler; digits count the layers of one place, 9 for more."""
    fitted = [(layer.fit.sigma, layer.fit.skewness) for layer in layers if layer.fit]
    points = [(x, y) for x, y in fitted if SIGMAS[0] <= x <= SIGMAS[1] and SKEWNESSES[0] <= y <= SKEWNESSES[1]]
    if not points:
        return
    marks = [(ruler.sigma, ruler.skewness) for ruler in rulers]
    left, right = _range([x for x, _ in [*points, *marks]])
    bottom, top = _range([y for _, y in [*points, *marks, (0.0, 0.0)]])
    canvas = [[" "] * WIDTH for _ in range(HEIGHT)]

    def place(point: Point) -> tuple[int, int]:
        row = round((top - point[1]) / (top - bottom) * (HEIGHT - 1))
        return row, round((point[0] - left) / (right - left) * (WIDTH - 1))

    canvas[place((left, 0.0))[0]] = [LOGNORMAL] * WIDTH
    for letter, mark in zip(LETTERS, marks, strict=True):
        row, column = place(mark)
        canvas[row][column] = letter
    covered = []
    for (row, column), number in Counter(map(place, points)).items():
        covered += [letter for letter in canvas[row][column] if letter in LETTERS]
        canvas[row][column] = str(min(number, MANY))
    for row, line in enumerate(canvas):
        skewness = fixed(top - (top - bottom) * row / (HEIGHT - 1), 2)
        yield sentence(f"{skewness:>6} |{''.join(line).rstrip()}")
    ends = f"{fixed(left, 2)}{fixed(right, 2):>{WIDTH - len(fixed(left, 2))}}"
    yield sentence(f"{'skew':>6}  {ends}  sigma")
    key = "; ".join(f"{letter} {ruler.family}" for letter, ruler in zip(LETTERS, rulers, strict=True))
    outside = len(fitted) - len(points)
    beyond = f"; {outside} beyond the edge" if outside else ""
    over = f", which cover {', '.join(covered)}" if covered else ""
    yield sentence(Span(f"{LOGNORMAL} lognormal; {key}; digits: layers{over}{beyond}", Tone.QUIET))


def _range(values: Sequence[float]) -> tuple[float, float]:
    least, greatest = min(values), max(values)
    room = ROOM * (greatest - least)
    return least - room, greatest + room
