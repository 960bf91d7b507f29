"""Compare two csv reports of one checkpoint: texts equal, numbers equal to rounding."""

import csv
import math
import sys
from pathlib import Path

RELATIVE_TOLERANCE = 1e-12  # the kernels add up squares in another order


def cells(file: str) -> list[list[str]]:
    """Read a report's cells."""
    with Path(file).open(newline="", encoding="utf-8") as stream:
        return list(csv.reader(stream))


def same(left: str, right: str) -> bool:
    """Whether two cells say the same."""
    if left == right:
        return True
    try:
        return math.isclose(float(left), float(right), rel_tol=RELATIVE_TOLERANCE)
    except ValueError:
        return False


def main() -> None:
    """Exit with a sentence when the reports differ."""
    left, right = (cells(file) for file in sys.argv[1:])
    if [len(row) for row in left] != [len(row) for row in right]:
        sys.exit("the reports have unlike shapes")
    for left_row, right_row in zip(left, right, strict=True):
        if not all(map(same, left_row, right_row)):
            sys.exit(f"the reports differ:\n{left_row}\n{right_row}")
    print(f"{len(left)} rows agree")


if __name__ == "__main__":
    main()
