"""Journal: what an audit has finished, on disk, so that a killed one need not begin again.

The file is a header and then records, one for each finished piece of work, only ever appended to. A record counts when
its checksum is right. What a kill tore off at the end is cut away when the file is next opened, and nothing that
follows a damaged byte is trusted. So all is kept that was appended before, and no more is lost than was under way.
Only a crash of the whole machine can lose more: the file is not forced to the disk.
"""

import fcntl
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from threading import Lock
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt
import platformdirs
import xxhash

from jaynes_audit.analyzers.anatomy import Anatomy
from jaynes_audit.analyzers.checkpoints.quoted import quoted_path
from jaynes_audit.analyzers.distributions.moments import LogMoments, NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.sketch._kernel_numpy import CELLS
from jaynes_audit.analyzers.sketch.extent import MAX_SCALED_LENGTH, Extent
from jaynes_audit.analyzers.sketch.grid import LOW_BITS, Grid, grid_of
from jaynes_audit.analyzers.sketch.histogram import CODES, Histogram, Magnitudes
from jaynes_audit.analyzers.sketch.kernel import KERNEL_NAME
from jaynes_audit.analyzers.sketch.sketch import BlockCounts, Sketch

FORMAT_VERSION = 1  # of this file's layout
SKETCH_VERSION = 1  # to be raised with every change that makes a sketch or an anatomy differ, by its last bit even

SUFFIX = ".journal"
KEPT_SECONDS = 30 * 24 * 3600  # whoever has not come back to a killed audit by then hardly will

MAGIC = b"JNjournl"
KEY_BYTES = 16  # 2**64 keys before two of them are likely to collide
RECORD = struct.Struct("<Q17sI")  # XXH3 of all that follows; kind and key; bytes of payload
CHECKSUM_BYTES = 8
SKETCH, ANATOMY = b"s", b"a"

Integers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint16]
Sums = npt.NDArray[np.float64]
Kept = TypeVar("Kept")


def journal_path(identity: str) -> Path:
    """Where the journal of an audit lies: in the user's cache folder, under a name made from `identity`.

    `identity` tells in full what is audited, and how. The path begins with "~" where the user has no home folder.
    """
    name = hashlib.blake2b(identity.encode(errors="surrogatepass"), digest_size=KEY_BYTES).hexdigest()
    return platformdirs.user_cache_path("jaynes-audit") / "journals" / f"{name}{SUFFIX}"


class Journal:
    """The finished work of one audit, each piece under a key: a string that tells its content and its place in full.

    What was kept comes back equal to the last bit. Keeping is for any number of threads, and reaches the file before it
    returns; memory holds no more than where each entry begins. Nothing here ever ends an audit: where the file cannot
    be read or written, or belongs to another process, nothing is kept from then on and `failure` is a sentence that
    says so, for the user. It is empty as long as all goes well. What cannot be restored is absent, which costs time and
    nothing else.

    A layer of 4096 x 4096 Gaussian weights takes about 1/400 of its own bytes in bfloat16 and 1/220 in float16; one of
    64 x 64 bfloat16 takes two fifths.
    """

    def __init__(self, path: Path, *, descriptor: int = -1, offsets: dict[bytes, int] | None = None) -> None:
        self.failure = ""
        self._path = path
        self._descriptor = descriptor
        self._offsets = offsets or {}
        self._lock = Lock()

    @staticmethod
    def at(path: Path) -> "Journal":
        """Open the journal at `path`, or begin one, and keep other processes out of it until it is closed.

        A journal of another version of the program, of NumPy, or of another kind of machine is begun anew: its numbers
        might differ in their last bits. Other journals in the same folder go when nobody has written to them for 30
        days.
        """
        journal = Journal(path)
        try:
            path = path.expanduser()
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _locked(path, os.O_CREAT | os.O_APPEND)
        except BlockingIOError:
            journal.failure = (
                f"another process is auditing the same and holds the journal {quoted_path(path)}, so this audit "
                "keeps none and could not be resumed; wait for the other one to have it resumable"
            )
            return journal
        except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
            journal._fail(error)
            return journal
        _remove_stale(path.parent)
        try:
            return Journal(path, descriptor=descriptor, offsets=_offsets(descriptor))
        except OSError as error:
            os.close(descriptor)
            journal._fail(error)
            return journal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def sketch(self, key: str) -> Sketch | None:
        """Give the sketch that was kept under this key; None where there is none."""
        return self._restored(_entry(SKETCH, key), _sketch_from)

    def keep_sketch(self, key: str, sketch: Sketch) -> None:
        """Keep a sketch: of a layer, or of a piece of one."""
        if not self.failure:
            self._keep(_entry(SKETCH, key), _bytes_of_sketch(sketch))

    def anatomy(self, key: str) -> Anatomy | NotFitted | None:
        """Give the anatomy, or why there is none, that was kept under this key; None where neither was."""
        return self._restored(_entry(ANATOMY, key), _anatomy_from)

    def keep_anatomy(self, key: str, anatomy: Anatomy | NotFitted) -> None:
        """Keep a layer's anatomy with its residual magnitudes, or why it has none."""
        if not self.failure:
            self._keep(_entry(ANATOMY, key), _bytes_of_anatomy(anatomy))

    def finished(self) -> None:
        """Remove the file: the audit came to its end."""
        if self._descriptor >= 0:
            with suppress(OSError):
                if _stands_at(self._path, self._descriptor):
                    self._path.unlink()

    def _keep(self, entry: bytes, payload: bytes) -> None:
        record = _record(entry, payload)
        with self._lock:
            if self.failure:
                return
            try:
                offset = _append(self._descriptor, record)
            except OSError as error:
                self._fail(error)
            else:
                self._offsets[entry] = offset

    def _restored(self, entry: bytes, parse: Callable[[bytes], Kept]) -> Kept | None:
        if entry not in self._offsets:
            return None
        try:
            found, payload = _record_at(self._descriptor, self._offsets[entry])
            return parse(payload) if found == entry else None
        except (OSError, ValueError, OverflowError, struct.error, zlib.error):
            return None

    def _fail(self, error: Exception) -> None:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        self.failure = (
            f"finished work cannot be kept in the journal {quoted_path(self._path)} ({reason}), so this audit goes on "
            "but could not be resumed; make room, or make the folder writable, to have it resumable"
        )


# ---- the file


def _locked(path: Path, flags: int) -> int:
    """Open a file and lock it for this process. Raises BlockingIOError when another one has."""
    while True:
        descriptor = os.open(path, os.O_RDWR | flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _stands_at(path, descriptor):  # else its last owner removed it meanwhile
                return descriptor
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _stands_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_stale(folder: Path) -> None:
    """Remove the journals in a folder that nobody has written to for 30 days and no process has open."""
    oldest = time.time() - KEPT_SECONDS
    with suppress(OSError):
        for path in folder.glob(f"*{SUFFIX}"):
            with suppress(OSError):
                # Asked before it is locked too: a lock, however short, tells others that the journal is in use.
                if path.is_file() and path.stat().st_mtime < oldest:
                    descriptor = _locked(path, 0)
                    try:
                        if os.fstat(descriptor).st_mtime < oldest:
                            path.unlink()
                    finally:
                        os.close(descriptor)


def _header() -> bytes:
    """What a journal begins with: only equal code on an equal machine gives equal numbers."""
    made_by = (
        FORMAT_VERSION,
        SKETCH_VERSION,
        version("jaynes-audit"),
        KERNEL_NAME,
        np.__version__,
        os.uname().machine,
    )
    return MAGIC + hashlib.blake2b(repr(made_by).encode(), digest_size=KEY_BYTES).digest()


def _offsets(descriptor: int) -> dict[bytes, int]:
    """Where each sound record begins. What follows the last of them is cut off; another's journal is begun anew."""
    header = _header()
    if os.pread(descriptor, len(header), 0) != header:
        os.ftruncate(descriptor, 0)
        _append(descriptor, header)
    offsets: dict[bytes, int] = {}
    end = len(header)
    with suppress(ValueError):
        while True:
            entry, payload = _record_at(descriptor, end)
            offsets[entry] = end
            end += RECORD.size + len(payload)
    os.ftruncate(descriptor, end)
    return offsets


def _entry(kind: bytes, key: str) -> bytes:
    return kind + hashlib.blake2b(key.encode(errors="surrogatepass"), digest_size=KEY_BYTES).digest()


def _record(entry: bytes, payload: bytes) -> bytes:
    head = RECORD.pack(0, entry, len(payload))
    checked = head[CHECKSUM_BYTES:] + payload
    return xxhash.xxh3_64_intdigest(checked).to_bytes(CHECKSUM_BYTES, "little") + checked


def _record_at(descriptor: int, offset: int) -> tuple[bytes, bytes]:
    """Read the entry and the payload of the record at `offset`. Raises ValueError when there is no sound one."""
    head = os.pread(descriptor, RECORD.size, offset)
    if len(head) < RECORD.size:
        raise ValueError("no record")
    checksum, entry, length = RECORD.unpack(head)
    if length > os.fstat(descriptor).st_size - offset:  # asked first: reading sets that much memory aside
        raise ValueError("a record that was cut off")
    payload = os.pread(descriptor, length, offset + RECORD.size)
    if xxhash.xxh3_64_intdigest(head[CHECKSUM_BYTES:] + payload) != checksum:
        raise ValueError("a damaged record")
    return entry, payload


def _append(descriptor: int, data: bytes) -> int:
    """Append bytes, all or none, and give the offset at which they begin."""
    offset = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(descriptor, offset)
        raise
    return offset


# ---- whole numbers


RUNGS: tuple[np.dtype[np.integer], ...] = tuple(np.dtype(name) for name in ("<u1", "<u2", "<u4", "<i8"))
MOST_BYTES = sum(rung.itemsize for rung in RUNGS)  # of one number


def _packed(*arrays: Integers | Codes) -> bytes:
    """Pack whole numbers from 0 up, most of them small: one byte each, and the rest again in two, four, eight bytes.

    Nearly all differences of neighbouring codes are alike, and so are the tallies of a small layer: runs, and bytes
    that are more frequent than others. Deflate with these two alone (Z_RLE) was measured to give files as small as
    level 1 does, in two thirds of the time. Sums of squares are not packed: they would shrink by a tenth.
    """
    numbers = np.concatenate(arrays)
    rungs = []
    for rung in RUNGS:
        most = np.iinfo(rung).max
        low = np.minimum(numbers, most).astype(rung)
        rungs.append(low.tobytes())
        numbers = numbers[low == most]
        if not numbers.size:
            break
    deflate = zlib.compressobj(level=1, wbits=-zlib.MAX_WBITS, strategy=zlib.Z_RLE)
    return deflate.compress(b"".join(rungs)) + deflate.flush()


def _unpacked(packed: bytes, lengths: Sequence[int]) -> list[Integers]:
    """Give arrays of these lengths back. Raises ValueError or zlib.error when that is not what was packed."""
    length = sum(lengths)
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    rungs = inflate.decompress(packed, max_length=length * MOST_BYTES + 1)
    numbers = np.zeros(length, np.int64)
    wanted: slice | npt.NDArray[np.intp] = slice(None)
    start = 0
    for rung in RUNGS:
        low = np.frombuffer(rungs, rung, count=numbers[wanted].size, offset=start)
        start += low.nbytes
        numbers[wanted] = low
        wanted = np.flatnonzero(numbers == np.iinfo(rung).max)
        if not wanted.size:
            break
    if start != len(rungs) or not inflate.eof or (numbers < 0).any():
        raise ValueError("other numbers than were packed")
    ends = [*accumulate(lengths, initial=0)]
    return [numbers[start:end] for start, end in pairwise(ends)]


def _steps(codes: Codes) -> Codes:
    """Differences of neighbouring codes, modulo 2**16."""
    steps = codes.copy()
    steps[1:] -= codes[:-1]
    return steps


def _climbed(steps: Integers) -> Codes:
    return np.cumsum(steps.astype(np.uint16), dtype=np.uint16)


def _check(codes: Codes, tallies: Integers, *, ends: Integers, most: int) -> None:
    """Raise ValueError unless codes rise, up to each of `ends`, and count one weight each or more, `most` in all."""
    falls = np.flatnonzero(codes[1:] <= codes[:-1]) + 1
    if not set(falls.tolist()) <= set(ends.tolist()):
        raise ValueError("codes that do not rise")
    if not tallies.all() or tallies.sum(dtype=np.float64) > most:  # float64 does not run over
        raise ValueError("tallies of no weights, or of too many")


# ---- sketches

NO_ENDS = np.empty(0, np.int64)
MOST_SQUARES = MAX_SCALED_LENGTH * 2.0**256  # of one row or column: weights are counted as float32, below 2**128

# Rows, columns, dtype, scaled; low bits, largest bits, weights at the largest float, content;
# where the sums of squares other than 0 lie, of rows and of columns;
# entries of the blocks and of the histogram, and the quantiser's codes
SKETCH_HEAD = struct.Struct("<QQ12s?IIQ16sQQQQIII")


def _bytes_of_sketch(sketch: Sketch) -> bytes:
    extent, counts, histogram = sketch.extent, sketch.counts, sketch.histogram
    row_span, column_span = _span(sketch.row_squares), _span(sketch.column_squares)
    head = SKETCH_HEAD.pack(
        extent.rows,
        extent.columns,
        extent.dtype.encode(),
        extent.scaled,
        histogram.low_bits,
        sketch.largest_bits,
        sketch.at_largest_float,
        sketch.content.to_bytes(16, "little"),
        row_span.start,
        row_span.stop,
        column_span.start,
        column_span.stop,
        counts.codes.size,
        histogram.codes.size,
        sketch.code_tallies.size,
    )
    squares = (sketch.row_squares[row_span], sketch.column_squares[column_span])
    packed = _packed(
        counts.ends,
        _steps(counts.codes),
        counts.tallies,
        _steps(histogram.codes),
        histogram.tallies,
        sketch.code_tallies,
    )
    return b"".join([head, *(each.astype("<f8", copy=False).tobytes() for each in squares), packed])


def _span(squares: Sums) -> slice:
    """Where the sums other than 0 lie: those of a piece of a layer are 0 in all rows but its own."""
    [occupied] = squares.view(np.int64).nonzero()
    return slice(int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else slice(0, 0)


def _sketch_from(payload: bytes) -> Sketch:
    head = SKETCH_HEAD.unpack_from(payload)
    rows, columns, dtype, scaled, low_bits, largest_bits, at_largest_float, content, *spans, cells, codes, quantised = (
        head
    )
    extent = Extent(rows=rows, columns=columns, dtype=Dtype(dtype.rstrip(b"\0").decode()), scaled=scaled)
    if scaled and max(rows, columns) > MAX_SCALED_LENGTH:
        raise ValueError("sums of squares of too long an axis")
    if low_bits >> LOW_BITS:
        raise ValueError("more low bits than there are")
    row_squares, start = _squares_from(payload, SKETCH_HEAD.size, rows if scaled else 0, slice(*spans[:2]))
    column_squares, start = _squares_from(payload, start, columns if scaled else 0, slice(*spans[2:]))

    blocks = extent.block_edges.size - 1
    if cells > blocks * CELLS or max(codes, quantised) > CODES:
        raise ValueError("more codes than there are")
    lengths = (blocks, cells, cells, codes, codes, quantised)
    ends, cell_steps, cell_tallies, steps, tallies, code_tallies = _unpacked(payload[start:], lengths)
    counts = BlockCounts(codes=_climbed(cell_steps), tallies=cell_tallies, ends=ends)
    histogram = Histogram(dtype=extent.dtype, low_bits=low_bits, codes=_climbed(steps), tallies=tallies)
    if ends[-1] != cells or (ends[1:] < ends[:-1]).any():
        raise ValueError("blocks of other lengths")
    _check(counts.codes, counts.tallies, ends=counts.ends, most=extent.weights)
    _check(histogram.codes, histogram.tallies, ends=NO_ENDS, most=extent.weights)
    return Sketch(
        extent=extent,
        counts=counts,
        histogram=histogram,
        row_squares=row_squares,
        column_squares=column_squares,
        largest_bits=largest_bits,
        at_largest_float=at_largest_float,
        content=int.from_bytes(content, "little"),
        code_tallies=code_tallies,
    )


def _squares_from(payload: bytes, start: int, length: int, span: slice) -> tuple[Sums, int]:
    """Give the sums of squares that begin at `start`, and where they end."""
    if not span.start <= span.stop <= length:
        raise ValueError("sums of squares of other rows or columns than there are")
    kept = np.frombuffer(payload, "<f8", count=span.stop - span.start, offset=start)
    if not ((kept >= 0) & (kept <= MOST_SQUARES)).all():  # a NaN is neither
        raise ValueError("numbers that are no sums of squares")
    squares = np.zeros(length)
    squares[span] = kept
    return squares, start + kept.nbytes


# ---- anatomies


# Log-variances of rows and columns; the log-moments of both residuals; used low bits of the grid; entries
ANATOMY_HEAD = struct.Struct("<ddQddddQddddBI")
FITTED, NOT_FITTED = b"+", b"-"


def _bytes_of_anatomy(anatomy: Anatomy | NotFitted) -> bytes:
    if isinstance(anatomy, NotFitted):
        return NOT_FITTED + anatomy.reason.encode(errors="surrogatepass")
    magnitudes = anatomy.residual_magnitudes
    head = ANATOMY_HEAD.pack(
        anatomy.row_log_variance,
        anatomy.column_log_variance,
        *_numbers_of(anatomy.row_residual),
        *_numbers_of(anatomy.residual),
        _used_low_bits_of(magnitudes.grid),
        magnitudes.codes.size,
    )
    return FITTED + head + _packed(_steps(magnitudes.codes.astype(np.uint16)), magnitudes.tallies)


def _anatomy_from(payload: bytes) -> Anatomy | NotFitted:
    if payload[:1] == NOT_FITTED:
        return NotFitted(payload[1:].decode(errors="surrogatepass"))
    head = ANATOMY_HEAD.unpack_from(payload, 1)
    row_log_variance, column_log_variance, *moments, used_low_bits, entries = head
    if payload[:1] != FITTED or used_low_bits > LOW_BITS or entries > CODES:
        raise ValueError("no anatomy")
    grid = _residual_grid(used_low_bits)
    steps, tallies = _unpacked(payload[1 + ANATOMY_HEAD.size :], (entries, entries))
    codes = _climbed(steps)
    _check(codes, tallies, ends=NO_ENDS, most=int(moments[5]))
    if entries and not 0 < codes[0] <= codes[-1] < grid.not_finite:
        raise ValueError("magnitudes that are none")
    return Anatomy(
        row_log_variance=row_log_variance,
        column_log_variance=column_log_variance,
        row_residual=_moments_from(moments[:5]),
        residual=_moments_from(moments[5:]),
        residual_magnitudes=Magnitudes(grid=grid, codes=codes.astype(np.int64), tallies=tallies),
    )


def _numbers_of(moments: LogMoments) -> tuple[float, ...]:
    return (moments.weights, moments.log_mean, moments.log_sigma, moments.skewness, moments.excess_kurtosis)


def _moments_from(numbers: list[float]) -> LogMoments:
    weights, log_mean, log_sigma, skewness, excess_kurtosis = numbers
    return LogMoments(
        weights=int(weights), log_mean=log_mean, log_sigma=log_sigma, skewness=skewness, excess_kurtosis=excess_kurtosis
    )


def _residual_grid(used_low_bits: int) -> Grid:
    """The grid on which a residual is counted, as float32 weights with so many of their low bits in use."""
    return grid_of(Dtype.F32, 1 << (LOW_BITS - used_low_bits))


def _used_low_bits_of(grid: Grid) -> int:
    """Which grid of float32 this is. There is one object for each, and nearly all residuals are on that of all bits."""
    for used_low_bits in range(LOW_BITS, -1, -1):
        if _residual_grid(used_low_bits) is grid:
            return used_low_bits
    raise ValueError("a residual is counted on a grid of float32")
