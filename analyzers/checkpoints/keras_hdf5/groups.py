"""The links of an HDF5 group: which names it gives to which objects.

Source: HDF5 File Format Specification 3.0, sections III.A (B-trees), III.C and III.D (symbol tables, local heaps),
III.G (fractal heaps) and IV.A.2 (link messages).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from jaynes_audit.analyzers.checkpoints.content import Content, Cursor
from jaynes_audit.analyzers.checkpoints.keras_hdf5.messages import UNDEFINED, Kind, Messages
from jaynes_audit.analyzers.checkpoints.quoted import quoted

LONGEST_NAME = 1024  # bytes; Keras's longest are layer names
LARGEST_LEVEL = 16  # of a B-tree: with two children a node, that is sixty thousand leaves, and nodes have more
GROUP_NODES = 0
TREE_NODE_BYTES = 24
SYMBOL_BYTES = 40
SOFT_LINK_SYMBOL = 2  # cache type
LINK_NAMES = 5  # record type of the B-tree of a group's links by name
HASH_BYTES = 4
NODE_2_BYTES = 10  # signature, version, type and checksum of a node of a B-tree of version 2
LARGEST_ROWS = 64
HEAP_HEADER_BYTES = 142


class LinkKind(IntEnum):
    """What a name leads to: an object, a path inside the file, or another file."""

    HARD = 0
    SOFT = 1
    EXTERNAL = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One name in a group. `address` is that of the object of a hard link, `target` the path of a soft one."""

    name: str
    kind: LinkKind
    address: int = UNDEFINED
    target: str = ""


def links_of(content: Content, messages: Messages) -> Iterator[Link]:
    """The links of the group with these messages, in the order that they are stored in.

    Names are not empty, hold no `/`, and each stands once.

    Raises:
        RefusedFile: JN003 when a part is not what it should be, JN001 when it leads out of the file.
    """
    seen: set[str] = set()
    for link in _links(content, messages):
        if link.name in seen or link.name in {"", "."} or "/" in link.name:
            raise content.bad(
                f"has a group with the name {quoted(link.name)} in it, twice or where no name can be", case="bad-name"
            )
        seen.add(link.name)
        yield link


def _links(content: Content, messages: Messages) -> Iterator[Link]:
    for message in messages.get(Kind.SYMBOL_TABLE, ()):
        cursor = message.cursor(content)
        yield from _symbols(content, tree=cursor.number(8), heap=cursor.number(8))
    for message in messages.get(Kind.LINK, ()):
        yield _link(content, message.cursor(content))
    for message in messages.get(Kind.LINK_INFO, ()):
        cursor = message.cursor(content)
        cursor.take(1)
        cursor.take(8 if cursor.number(1) & 1 else 0)  # the largest creation order so far
        heap, names = cursor.number(8), cursor.number(8)
        if heap != UNDEFINED:
            yield from _dense_links(content, heap, names)


def is_group(messages: Messages) -> bool:
    """Whether the object with these messages is a group."""
    return any(kind in messages for kind in (Kind.SYMBOL_TABLE, Kind.LINK_INFO, Kind.LINK))


# ---- symbol tables


def _symbols(content: Content, *, tree: int, heap: int) -> Iterator[Link]:
    cursor = content.cursor(heap, 32)
    if cursor.take(4) != b"HEAP":
        raise content.bad(f"has no heap of names at byte {heap:,}", case="no-local-heap")
    cursor.take(4)
    length = cursor.number(8)
    cursor.take(8)  # the list of free places
    names_at = cursor.number(8)
    names = content.at(names_at, length)
    for node in tree_leaves(content, tree, kind=GROUP_NODES, key_bytes=8):
        yield from _symbols_of_node(content, node.child, names)


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """A child of a B-tree of version 1, and the key before it."""

    key: bytes
    child: int


def tree_leaves(content: Content, address: int, *, kind: int, key_bytes: int) -> Iterator[TreeEntry]:
    """The entries at the lowest level of the B-tree of version 1 at `address`, in order.

    Raises:
        RefusedFile: JN003 when a node is not one of this tree.
    """
    pending = [(address, -1)]
    while pending:
        node, level_wanted = pending.pop()
        cursor = content.cursor(node, TREE_NODE_BYTES)
        signature, node_kind, level, count = cursor.take(4), cursor.number(1), cursor.number(1), cursor.number(2)
        if (signature, node_kind) != (b"TREE", kind) or level > LARGEST_LEVEL or level_wanted not in {-1, level}:
            raise content.bad(f"has no node of the right kind and level at byte {node:,}", case="no-tree-node")
        body = content.cursor(node + TREE_NODE_BYTES, count * (key_bytes + 8))
        entries = [TreeEntry(body.take(key_bytes), body.number(8)) for _ in range(count)]
        if level:
            pending.extend((entry.child, level - 1) for entry in reversed(entries))
        else:
            yield from entries


def _symbols_of_node(content: Content, address: int, names: bytes) -> Iterator[Link]:
    cursor = content.cursor(address, 8)
    if cursor.take(4) != b"SNOD":
        raise content.bad(f"has no table of names at byte {address:,}", case="no-symbol-table")
    cursor.take(2)
    count = cursor.number(2)
    body = content.cursor(address + 8, count * SYMBOL_BYTES)
    for _ in range(count):
        name_at, header, cache = body.number(8), body.number(8), body.number(4)
        body.take(4)
        scratch = body.take(16)
        name = _heap_text(content, names, name_at)
        if cache == SOFT_LINK_SYMBOL:
            target = _heap_text(content, names, int.from_bytes(scratch[:4], "little"))
            yield Link(name=name, kind=LinkKind.SOFT, target=target)
        else:
            yield Link(name=name, kind=LinkKind.HARD, address=header)


def _heap_text(content: Content, names: bytes, at: int) -> str:
    end = names.find(b"\0", at, at + LONGEST_NAME + 1)
    if end < 0:
        raise content.bad(
            f"has a name at byte {at:,} of a heap that does not end within {LONGEST_NAME:,}", case="name-without-end"
        )
    content.pay(end - at)
    return Cursor(content, names[at:end], at).text(end - at)


# ---- link messages


def _link(content: Content, cursor: Cursor) -> Link:
    if cursor.number(1) != 1:
        raise content.bad(f"has a link of unknown version before byte {cursor.address:,}", case="link-version")
    flags = cursor.number(1)
    kind = cursor.number(1) if flags & 0x08 else LinkKind.HARD
    cursor.take((8 if flags & 0x04 else 0) + (1 if flags & 0x10 else 0))  # creation order, character set
    length = cursor.number(1 << (flags & 3))
    if length > LONGEST_NAME:
        raise content.bad(f"has a name of {length:,} bytes, above the limit of {LONGEST_NAME:,}", case="name-too-long")
    name = cursor.text(length)
    match kind:
        case LinkKind.HARD:
            return Link(name=name, kind=LinkKind.HARD, address=cursor.number(8))
        case LinkKind.SOFT:
            return Link(name=name, kind=LinkKind.SOFT, target=cursor.text(min(cursor.number(2), LONGEST_NAME)))
        case _:  # user-defined links lead wherever a plug-in says: they are no better than links to other files
            return Link(name=name, kind=LinkKind.EXTERNAL)


# ---- links in a fractal heap, for groups of more than eight


def _dense_links(content: Content, heap_address: int, names_address: int) -> Iterator[Link]:
    heap = _heap(content, heap_address)
    for record in _records(content, names_address):
        address, length = _place(content, heap, record[HASH_BYTES:])
        yield _link(content, content.cursor(address, length))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heap:
    """What a fractal heap's header says; rows of blocks double in size from the second on."""

    offset_bytes: int
    length_bytes: int
    width: int
    first_block: int
    largest_block: int
    root: int
    rows: int


def _heap(content: Content, address: int) -> _Heap:
    cursor = content.cursor(address, HEAP_HEADER_BYTES)
    if cursor.take(4) != b"FRHP":
        raise content.bad(f"has no heap of links at byte {address:,}", case="no-fractal-heap")
    cursor.take(3)  # version, length of an ID
    filtered = cursor.number(2)
    cursor.take(1)
    largest_object = cursor.number(4)
    cursor.take(12 * 8)  # huge objects, free space, counts
    width, first_block, largest_block, heap_bits = (cursor.number(n) for n in (2, 8, 8, 2))
    cursor.take(2)  # rows at first
    root, rows = cursor.number(8), cursor.number(2)
    sound = (
        not filtered
        and width > 0
        and 0 < first_block <= largest_block
        and not (first_block & (first_block - 1) or largest_block & (largest_block - 1))
        and rows <= LARGEST_ROWS
        and heap_bits <= LARGEST_ROWS
    )
    if not sound:
        raise content.bad(f"has a heap of links at byte {address:,} that no library makes", case="bad-fractal-heap")
    # As many bytes as the largest offset in a block takes, or the largest object: `H5HF__hdr_finish_init`, H5HFhdr.c.
    length_bytes = min((largest_block.bit_length() + 6) // 8, (max(1, largest_object).bit_length() + 7) // 8)
    return _Heap(
        offset_bytes=(heap_bits + 7) // 8,
        length_bytes=length_bytes,
        width=width,
        first_block=first_block,
        largest_block=largest_block,
        root=root,
        rows=rows,
    )


def _place(content: Content, heap: _Heap, identifier: bytes) -> tuple[int, int]:
    """The address and the length of the object with this identifier in the heap."""
    cursor = Cursor(content, identifier, 0)
    if cursor.number(1) & 0x30:
        raise content.bad("keeps a link outside its heap's blocks, which no library does", case="bad-fractal-heap")
    offset, length = cursor.number(heap.offset_bytes), cursor.number(heap.length_bytes)
    block, rows = heap.root, heap.rows
    while rows:
        row, column, inside = _cell(heap, offset)
        if row >= rows:
            raise content.bad(f"places a link at {offset:,} of its heap, past the end", case="bad-fractal-heap")
        entry = block + 13 + heap.offset_bytes + 8 * (row * heap.width + column)
        block = content.cursor(entry, 8).number(8)
        size = _block_bytes(heap, row)
        rows = 0 if size <= heap.largest_block else (size // (heap.first_block * heap.width)).bit_length()
        offset = inside
    return block + offset, length


def _block_bytes(heap: _Heap, row: int) -> int:
    return heap.first_block << max(0, row - 1)


def _cell(heap: _Heap, offset: int) -> tuple[int, int, int]:
    """The row and the column of the block that holds `offset`, and the offset inside it."""
    doublings = (offset // (heap.first_block * heap.width)).bit_length()
    size = _block_bytes(heap, doublings)
    row_start = size * heap.width if doublings else 0
    return doublings, (offset - row_start) // size, (offset - row_start) % size


def _records(content: Content, address: int) -> Iterator[bytes]:
    """The records of the B-tree of version 2 at `address`, which tells a group's links by name."""
    cursor = content.cursor(address, 38)
    signature, _, kind = cursor.take(4), cursor.number(1), cursor.number(1)
    node_bytes, record_bytes, depth = cursor.number(4), cursor.number(2), cursor.number(2)
    cursor.take(2)
    root, count = cursor.number(8), cursor.number(2)
    if (signature, kind) != (b"BTHD", LINK_NAMES) or depth > LARGEST_LEVEL or record_bytes <= HASH_BYTES:
        raise content.bad(f"has no list of links by name at byte {address:,}", case="no-link-tree")
    widths = _pointer_widths(node_bytes, record_bytes, depth)
    pending = [(root, count, depth)] if root != UNDEFINED else []
    while pending:
        node, count, level = pending.pop()
        count_bytes, total_bytes = widths[level]
        pointer_bytes = 8 + count_bytes + total_bytes if level else 0
        body = content.cursor(node, 6 + count * record_bytes + (count + 1) * pointer_bytes)
        if body.take(4) != (b"BTIN" if level else b"BTLF"):
            raise content.bad(f"has no node of links by name at byte {node:,}", case="no-link-tree")
        body.take(2)
        yield from (body.take(record_bytes) for _ in range(count))
        for _ in range(count + 1 if level else 0):
            child, child_count = body.number(8), body.number(count_bytes)
            body.take(total_bytes)
            pending.append((child, child_count, level - 1))


def _pointer_widths(node_bytes: int, record_bytes: int, depth: int) -> list[tuple[int, int]]:
    """How wide, at each level, a child's number of records and the number below it are stored, in bytes.

    Each is as wide as the largest number that fits: `H5B2__hdr_init` in HDF5's `H5B2hdr.c`.
    """
    widths = [(0, 0)]
    most = max(0, node_bytes - NODE_2_BYTES) // record_bytes
    most_below, total_bytes = most, 0
    for _ in range(depth):
        count_bytes = (most.bit_length() + 7) // 8 if len(widths) == 1 else widths[1][0]
        widths.append((count_bytes, total_bytes))
        pointer = 8 + count_bytes + total_bytes
        most = max(0, node_bytes - NODE_2_BYTES - pointer) // (record_bytes + pointer)
        most_below = (most + 1) * most_below + most
        total_bytes = (most_below.bit_length() + 7) // 8
    return widths
