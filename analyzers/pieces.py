"""What one thread does at a time: pieces of layers read and sketched, or a whole layer read again and taken apart."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import blake2b

from jaynes_audit.analyzers.anatomy import Anatomy, anatomy
from jaynes_audit.analyzers.checkpoints.places import Span
from jaynes_audit.analyzers.checkpoints.reading import identity
from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer, Stored, chunks, stored_range
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.errors import CouldNotRead, RefusedFile
from jaynes_audit.analyzers.journal import Journal
from jaynes_audit.analyzers.layer_audit import Criterion, MeasuredLayer, measure_layers
from jaynes_audit.analyzers.sketch.sketch import Sketch, sketch

PIECE_BYTES = 64 << 20  # a larger layer is shared out in pieces of about this
BATCH_BYTES = 8 << 20  # smaller layers travel together up to about this, or the queue would cost more than the work
BATCH_PIECES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the threads read with: the open files, and what was finished by an audit that was killed.

    `contents` remembers what the tensors are made of, by their names.
    """

    sources: Sources
    journal: Journal | None = None
    contents: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows of a layer that one thread reads in one go."""

    layer: Layer
    first_row: int
    stop_row: int

    @property
    def bytes(self) -> int:
        """Length as it is read, in bytes."""
        return (self.stop_row - self.first_row) * self.layer.extent.row_bits // 8

    @property
    def is_last(self) -> bool:
        """Whether the layer ends with it."""
        return self.stop_row == self.layer.extent.rows

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the layer."""
        return self.first_row == 0 and self.is_last


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Pieces that one thread reads one after the other."""

    pieces: tuple[Piece, ...]
    means: Means
    criterion: Criterion

    @property
    def bytes(self) -> int:
        """Length of all pieces as they are read, in bytes."""
        return sum(piece.bytes for piece in self.pieces)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketched:
    """The sketch of a piece of a layer; `measured` is there when the piece is the whole layer."""

    piece: Piece
    sketch: Sketch
    measured: MeasuredLayer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A layer that could not be read: at all, or, where it was measured, once more."""

    layer: Layer
    error: RefusedFile | CouldNotRead
    once_more: bool = False

    @property
    def sentence(self) -> str:
        """What happened, in words."""
        return f"it could not be read a second time: {self.error}" if self.once_more else str(self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dissection:
    """A layer to be read once more."""

    layer: Layer
    means: Means


@dataclass(frozen=True, slots=True, kw_only=True)
class Dissected:
    """A layer read once more."""

    layer: Layer
    anatomy: Anatomy | NotFitted


def pieces(layer: Layer) -> Iterator[Piece]:
    """Share a layer out. The cuts follow from the layer alone."""
    extent = layer.extent
    chunk_bytes = max(1, extent.chunk_rows * extent.row_bits // 8)
    rows = extent.chunk_rows * max(1, PIECE_BYTES // chunk_bytes)
    for first_row in range(0, extent.rows, rows):
        yield Piece(layer=layer, first_row=first_row, stop_row=min(extent.rows, first_row + rows))


def batches(layers: Iterable[Layer], means: Means, criterion: Criterion) -> Iterator[Batch]:
    """Give the work of a first pass over the layers, in their order."""
    together: list[Piece] = []
    size = 0
    for layer in layers:
        for piece in pieces(layer):
            if together and (size + piece.bytes > BATCH_BYTES or len(together) == BATCH_PIECES):
                yield Batch(pieces=tuple(together), means=means, criterion=criterion)
                together, size = [], 0
            together.append(piece)
            size += piece.bytes
    if together:
        yield Batch(pieces=tuple(together), means=means, criterion=criterion)


def sketch_batch(batch: Batch) -> tuple[Batch, list[Sketched | Failed]]:
    """Read and sketch the pieces of a batch, and measure the layers that are whole."""
    finished = [_finished(piece, batch.means) for piece in batch.pieces]
    to_read = [piece for piece, known in zip(batch.pieces, finished, strict=True) if known is None]
    with suppress(CouldNotRead, RefusedFile):  # reading says so again, for each piece
        batch.means.sources.ahead(
            span for piece in to_read for span in _needs(piece.layer, piece.first_row, piece.stop_row)
        )
    outcomes = [
        _sketched(piece, batch.means) if known is None else Sketched(piece=piece, sketch=known)
        for piece, known in zip(batch.pieces, finished, strict=True)
    ]
    whole = [each for each in outcomes if isinstance(each, Sketched) and each.piece.is_whole]
    layers = measure_layers([each.piece.layer for each in whole], [each.sketch for each in whole], batch.criterion)
    measured = {id(each): replace(each, measured=layer) for each, layer in zip(whole, layers, strict=True)}
    return batch, [measured.get(id(each), each) for each in outcomes]


def _finished(piece: Piece, means: Means) -> Sketch | None:
    if means.journal is None:
        return None
    with suppress(CouldNotRead):  # reading says so again
        return means.journal.sketch(_key_of(piece, means))
    return None


def _sketched(piece: Piece, means: Means) -> Sketched | Failed:
    layer = piece.layer
    try:
        source = means.sources.of(layer.tensor)
        read = chunks(source, layer, first_row=piece.first_row, stop_row=piece.stop_row)
        summary = replace(sketch(read, layer.extent, first_row=piece.first_row), code_tallies=source.code_tallies)
        if means.journal:
            means.journal.keep_sketch(_key_of(piece, means), summary)
    except (RefusedFile, CouldNotRead) as error:
        return Failed(layer=layer, error=error)
    return Sketched(piece=piece, sketch=summary)


def dissect_layer(task: Dissection) -> Dissected | Failed:
    """Read a layer again, and divide out the scales of its rows and columns."""
    layer, means = task.layer, task.means
    try:
        key = f"{_key(layer, means)}, anatomy" if means.journal else ""
        known = means.journal.anatomy(key) if means.journal else None
        if known is not None:
            return Dissected(layer=layer, anatomy=known)
        taken_apart = anatomy(lambda: _once_more(layer, means.sources), layer.extent)
    except (RefusedFile, CouldNotRead) as error:
        return Failed(layer=layer, error=error, once_more=True)
    if means.journal:
        means.journal.keep_anatomy(key, taken_apart)
    return Dissected(layer=layer, anatomy=taken_apart)


def _once_more(layer: Layer, sources: Sources) -> Iterator[Stored]:
    sources.ahead(_needs(layer, 0, layer.extent.rows))
    return chunks(sources.of(layer.tensor), layer, first_row=0, stop_row=layer.extent.rows)


def _needs(layer: Layer, first_row: int, stop_row: int) -> Sequence[Span]:
    return layer.tensor.needs(*stored_range(layer, first_row, stop_row))


def _key_of(piece: Piece, means: Means) -> str:
    return f"{_key(piece.layer, means)}, rows {piece.first_row} to {piece.stop_row}"


def _key(layer: Layer, means: Means) -> str:
    """A text that differs for any two layers of unlike content or shape. Raises CouldNotRead when a file has gone."""
    tensor = layer.tensor
    content = means.contents.get(tensor.name)
    if content is None:
        files = dict.fromkeys(span.file for span in tensor.needs(0, tensor.bytes))
        stored = f"{tensor.dtype} {tensor.shape} at {tensor.start} to {tensor.end} by {tensor.decoder}"
        content = f"{[identity(file) for file in files]}, {tensor.name!r}, {stored}"
        means.contents[tensor.name] = content = blake2b(content.encode(errors="surrogatepass")).hexdigest()
    return f"{content}, {layer.part.rows}, {layer.part.columns}"
