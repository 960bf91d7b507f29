from typing_extensions import Buffer

def count(
    kind: int,
    stored: Buffer,
    rows: int,
    columns: int,
    tables: Buffer,
    row_squares: Buffer | None,
    column_squares: Buffer | None,
    facts: Buffer,
    /,
) -> None: ...
def drain(tables: Buffer, codes: Buffer, tallies: Buffer, /) -> int: ...
def fold(tables: Buffer, cells: Buffer, /) -> None: ...
def fold_signs(codes: Buffer, tallies: Buffer, not_finite: int, magnitudes: Buffer, merged: Buffer, /) -> int: ...
def count_blocks(
    kind: int,
    stored: Buffer,
    rows: int,
    columns: int,
    edges: Buffer,
    tables: Buffer,
    codes: Buffer,
    tallies: Buffer,
    ends: Buffer,
    row_squares: Buffer | None,
    column_squares: Buffer | None,
    facts: Buffer,
    /,
) -> int: ...
def pair(kind_a: int, a: Buffer, kind_b: int, b: Buffer, first: int, pairing: Buffer, /) -> None: ...
