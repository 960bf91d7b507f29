"""A closed machine for the opcodes of a checkpoint's pickle: bytes in, plain data out.

It knows the opcodes that `torch.save`, TorchScript and `torch.distributed.checkpoint` write, in protocols 2 to 5, and
refuses every other. It imports nothing and calls nothing that a pickle names: GLOBAL makes a name, and REDUCE, NEWOBJ
and BUILD are handed to `constructing`, which knows a fixed list of names and makes records of the rest.
Source of the opcodes' meaning: `Lib/pickletools.py` and `Lib/pickle.py` of CPython 3.13.

What a hostile pickle can do here is waste its own bytes: each opcode costs at most some hundred bytes of memory and
copies nothing that is already there, and there may be MOST_OPCODES of them. What takes the most memory is counted.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from struct import Struct
from typing import BinaryIO, Final

from jaynes_audit.analyzers.checkpoints.pytorch.allowed import is_allowed
from jaynes_audit.analyzers.checkpoints.pytorch.constructing import built, constructed, is_known, storage_of
from jaynes_audit.analyzers.checkpoints.pytorch.objects import (
    Global,
    OddKey,
    Record,
    Skipped,
    Storage,
    View,
    bad_layout,
    kind_of,
    unsafe,
)
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.errors import RefusedFile

MOST_OPCODES = 16_000_000  # 400,000 tensors, at 40 opcodes for a tensor
MOST_OF_A_KIND = 500_000  # of tensors, records or storages in one pickle: ten times what the largest models have
MOST_REMEMBERED = 4_000_000  # objects: eight for each tensor, as torch's pickler has them
NEWEST_PROTOCOL = 5
LONGEST_GLOBAL = 1_000  # characters of a module or a name
LONGEST_INTEGER = 1_024  # bytes of LONG4, as long as anything that a checkpoint counts
SMALL = 4_096  # bytes that may be asked for without a look at where the file ends
LARGEST_PLAIN_KEY = 1 << 60  # below it, integers have different hashes: no dict can be made slow by its keys
MOST_NAMED = 20  # of globals that no checkpoint needs
FETCH_AGAIN = "fetch the file again"

_STOP: Final = 0x2E
_F64 = Struct(">d")

REFUSED_OPCODES: dict[int, str] = {
    0x46: "FLOAT",
    0x49: "INT",
    0x4C: "LONG",
    0x50: "PERSID",
    0x53: "STRING",
    0x56: "UNICODE",
    0x64: "DICT",
    0x67: "GET",
    0x69: "INST",
    0x6C: "LIST",
    0x6F: "OBJ",
    0x70: "PUT",
    0x82: "EXT1",
    0x83: "EXT2",
    0x84: "EXT4",
    0x97: "NEXT_BUFFER",
    0x98: "READONLY_BUFFER",
}
"""Opcodes that exist and that no checkpoint needs: those of protocols 0 and 1, extensions, and buffers out of band."""

_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
"""Names of Python 2 that protocol 2 still writes, see `Lib/_compat_pickle.py`."""


@dataclass(frozen=True, slots=True)
class Unpickled:
    """What a pickle holds: its object, the storages that it names by their keys, and globals no checkpoint needs."""

    root: object
    storages: Mapping[str, Storage]
    unknown: Mapping[Global, None]


def unpickle(stream: BinaryIO, limit: int, *, folder: str = "", is_script: bool = False) -> Unpickled:
    """Run the pickle that begins where `stream` stands and ends before byte `limit`. The stream then stands behind it.

    Storages' keys get `folder` before them. `is_script` marks a pickle of TorchScript, whose classes are code in the
    same archive.

    Raises:
        RefusedFile: JN001 when the pickle is cut off, JN020 when it does what no checkpoint's does, JN004 when a
            tensor does not fit its storage.
    """
    machine = _Machine(stream, limit, folder=folder, is_script=is_script)
    try:
        root = machine.run()
    except RefusedFile as refusal:
        if stream.tell() > limit:
            raise machine.cut_off() from None
        if not machine.unknown:
            raise
        message = f"{about_unknown(machine.unknown)}; moreover, {refusal}"
        raise RefusedFile(message, rule="JN020", case="unknown-global") from None
    return Unpickled(root, machine.storages, machine.unknown)


def about_unknown(unknown: Iterable[Global]) -> str:
    """The sentence about globals that no checkpoint needs."""
    return (
        f"the pickle names {listed(list(map(str, unknown)), most=MOST_NAMED)}, which could run code when it is loaded; "
        "here nothing was imported or called: load it with weights_only=True or not at all, and convert it to "
        "safetensors"
    )


class _Machine:
    """One run over one pickle."""

    def __init__(self, stream: BinaryIO, limit: int, *, folder: str = "", is_script: bool = False) -> None:
        self.unknown: dict[Global, None] = {}
        self.storages: dict[str, Storage] = {}
        self._stream = stream
        self._read = stream.read  # looked up once: a large checkpoint has a million opcodes
        self._limit = limit
        self._folder = folder
        self._is_script = is_script
        self._stack: list[object] = []
        self._below: list[list[object]] = []  # the stacks under each MARK
        self.memo: dict[int, object] = {}
        self._made: dict[type, int] = {}

    def run(self) -> object:
        read, handler_of = self._read, _HANDLERS.get
        for _ in range(MOST_OPCODES):
            byte = read(1)
            if not byte:
                raise self.cut_off()
            handler = handler_of(byte[0])
            if handler is None:
                if byte[0] == _STOP:
                    return self.result()
                raise _refused_opcode(byte[0])
            handler(self)
        raise unsafe(f"has more than {MOST_OPCODES:,} opcodes", "too-many-opcodes")

    def result(self) -> object:
        if self._stream.tell() > self._limit:
            raise self.cut_off()
        return self.pop()

    # ---- the bytes

    def take(self, count: int) -> bytes:
        """So many bytes, never more than the file has: nothing is allocated on the pickle's word."""
        if count > SMALL and count > self._limit - self._stream.tell():
            raise self.cut_off()
        return self.exactly(count)

    def exactly(self, count: int) -> bytes:
        """A few bytes, the argument of an opcode."""
        content = self._read(count)
        if len(content) < count:
            raise self.cut_off()
        return content

    def number(self, size: int, *, signed: bool = False) -> int:
        content = self._read(size)
        if len(content) < size:
            raise self.cut_off()
        return int.from_bytes(content, "little", signed=signed)

    def byte(self) -> int:
        content = self._read(1)
        if not content:
            raise self.cut_off()
        return content[0]

    def line(self) -> str:
        line = self._stream.readline(LONGEST_GLOBAL + 1)
        if not line.endswith(b"\n"):
            raise self.cut_off() if len(line) <= LONGEST_GLOBAL else _odd_global("is too long")
        try:
            return line[:-1].decode("utf-8")
        except UnicodeDecodeError:
            raise _odd_global("is not UTF-8") from None

    def cut_off(self) -> RefusedFile:
        return RefusedFile(
            f"the pickle goes on where its bytes end, at byte {self._limit:,}; {FETCH_AGAIN}",
            rule="JN001",
            case="pickle-cut-off",
        )

    # ---- the stack

    def pop(self) -> object:
        if not self._stack:
            raise unsafe("takes from an empty stack", "stack-underflow")
        return self._stack.pop()

    def top(self) -> object:
        if not self._stack:
            raise unsafe("looks at an empty stack", "stack-underflow")
        return self._stack[-1]

    def push(self, value: object) -> None:
        self._stack.append(value)

    def since_mark(self) -> list[object]:
        if not self._below:
            raise unsafe("asks for a mark that was never set", "no-mark")
        items, self._stack = self._stack, self._below.pop()
        return items

    def mark(self) -> None:
        self._below.append(self._stack)
        self._stack = []

    def drop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self.since_mark()

    def drop_to_mark(self) -> None:
        self.since_mark()

    def skip_frame(self) -> None:
        self.number(8)

    def duplicate(self) -> None:
        self.push(self.top())

    # ---- the memo

    def remember(self, index: int) -> None:
        if not self._stack:
            raise unsafe("remembers from an empty stack", "stack-underflow")
        self.memo[index] = self._stack[-1]
        if len(self.memo) > MOST_REMEMBERED:
            raise unsafe(f"remembers more than {MOST_REMEMBERED:,} objects", "memo-too-large")

    def recall(self, index: int) -> None:
        try:
            self._stack.append(self.memo[index])
        except KeyError:
            raise unsafe(f"recalls number {index:,}, which it never remembered", "empty-memo") from None

    # ---- numbers and text

    def push_long(self, count: int) -> None:
        if count > LONGEST_INTEGER:
            raise unsafe(f"has an integer of {count:,} bytes", "huge-integer")
        self.push(int.from_bytes(self.take(count), "little", signed=True))

    def push_text(self, count: int) -> None:
        try:
            self.push(self.take(count).decode("utf-8", "surrogatepass"))
        except UnicodeDecodeError:
            raise unsafe("has text that is not UTF-8", "text-not-utf8") from None

    def push_old_text(self, count: int) -> None:
        if count > SMALL:
            self.push_bytes(count)
        else:
            self.push(self.take(count).decode("latin-1"))  # text or bytes of Python 2: nothing tells which

    def push_bytes(self, count: int) -> None:
        """Bytes are never looked into; many of them are passed over, so that they take no memory."""
        if count <= SMALL:
            self.push(self.take(count))
            return
        at = self._stream.tell()
        if count > self._limit - at:
            raise self.cut_off()
        self._stream.seek(at + count)
        self.push(Skipped(count))

    # ---- containers

    def make_tuple(self, count: int) -> None:
        if len(self._stack) < count:
            raise unsafe("takes from an empty stack", "stack-underflow")
        self._stack[-count:] = [tuple(self._stack[-count:])]

    def extend(self, items: list[object]) -> None:
        match self.top():
            case list() as target:
                target.extend(items)
            case Record() as record:
                record.elements.extend(items)
            case other:
                raise unsafe(f"appends to {kind_of(other)}", "append-to-no-list")

    def append(self) -> None:
        item = self.pop()
        self.extend([item])

    def set_items(self, items: list[object]) -> None:
        if len(items) % 2:
            raise unsafe("sets a key without a value", "key-without-value")
        pairs = zip(map(_key, items[::2]), items[1::2], strict=True)
        match self.top():
            case dict() as target:
                target.update(pairs)
            case Record() as record:
                record.entries.extend(pairs)
            case other:
                raise unsafe(f"sets items of {kind_of(other)}", "setitem-on-no-dict")

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    # ---- names and what is made with them

    def push_global(self, module: str, name: str) -> None:
        found = Global(_OLD_MODULES.get(module, module), name)
        is_data = is_known(found) or is_allowed(found)
        if not is_data and not (self._is_script and _is_script_class(found)):
            self.unknown[found] = None
        self.push(found)

    def named_global(self) -> None:
        self.push_global(self.line(), self.line())

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise _odd_global("is not made of two texts")
        if max(len(name), len(module)) > LONGEST_GLOBAL:
            raise _odd_global("is too long")
        self.push_global(module, name)

    def reduce(self) -> None:
        arguments = self.pop()
        callee = self.pop()
        if type(arguments) is not tuple or not isinstance(callee, Global | Record):
            raise unsafe(f"calls {kind_of(callee)} with {kind_of(arguments)}", "odd-call")
        made = constructed(callee, arguments)
        if isinstance(made, Record) or (isinstance(made, View) and made is not next(iter(arguments), None)):
            self.count(made)
        self.push(made)

    def new_object_with_keywords(self) -> None:
        keywords = self.pop()
        self.reduce()
        if keywords:
            record = Record(self.pop(), (), state=keywords)
            self.count(record)
            self.push(record)

    def build(self) -> None:
        state = self.pop()
        self.push(built(self.pop(), state))

    def persistent(self) -> None:
        found = storage_of(self.pop(), self._folder)
        self.count(found)
        if isinstance(found, Storage) and self.storages.setdefault(found.key, found).stored_size != found.stored_size:
            raise bad_layout(f"gives the storage {quoted(found.key)} two different sizes", "storage-size")
        self.push(found)

    def count(self, made: Record | View | Storage) -> None:
        """Refuse the first object too many of its kind: each takes far more memory than the opcodes that make it."""
        kind = type(made)
        self._made[kind] = self._made.get(kind, 0) + 1
        if self._made[kind] > MOST_OF_A_KIND:
            raise unsafe(f"makes more than {MOST_OF_A_KIND:,} objects of one kind: {kind_of(made)}", "too-many-objects")

    def protocol(self) -> None:
        protocol = self.byte()
        if protocol > NEWEST_PROTOCOL:
            raise unsafe(f"is of protocol {protocol}, and {NEWEST_PROTOCOL} is the newest", "pickle-protocol")


def _key(value: object) -> object:
    """The value as the key of a dict: as it is when it is plain, and wrapped when its hash could be made to collide."""
    kind = type(value)
    if kind is str or kind is bytes or kind is bool or kind is float or value is None:
        return value
    if kind is int and abs(value) < LARGEST_PLAIN_KEY:  # type: ignore[arg-type] # kind says so
        return value
    return OddKey(value)


def _is_script_class(found: Global) -> bool:
    """Whether TorchScript's loader takes this class from the archive's own code. No Python module has such a name."""
    return found.module.partition(".")[0] == "__torch__"


def _odd_global(fault: str) -> RefusedFile:
    return unsafe(f"has a global whose name {fault}", "odd-global")


def _refused_opcode(byte: int) -> RefusedFile:
    name = REFUSED_OPCODES.get(byte)
    if name:
        return unsafe(f"uses the opcode {name}, which no checkpoint needs", "opcode-not-allowed")
    return unsafe(f"has the byte 0x{byte:02x} where an opcode must stand", "no-opcode", remedy=FETCH_AGAIN)


_HANDLERS: dict[int, Callable[[_Machine], None]] = {
    0x28: _Machine.mark,
    0x29: lambda machine: machine.push(()),
    0x30: _Machine.drop,
    0x31: _Machine.drop_to_mark,
    0x32: _Machine.duplicate,
    0x42: lambda machine: machine.push_bytes(machine.number(4)),
    0x43: lambda machine: machine.push_bytes(machine.byte()),
    0x47: lambda machine: machine.push(_F64.unpack(machine.exactly(8))[0]),
    0x4A: lambda machine: machine.push(machine.number(4, signed=True)),
    0x4B: lambda machine: machine.push(machine.byte()),
    0x4D: lambda machine: machine.push(machine.number(2)),
    0x4E: lambda machine: machine.push(None),
    0x51: _Machine.persistent,
    0x52: _Machine.reduce,
    0x54: lambda machine: machine.push_old_text(machine.number(4)),
    0x55: lambda machine: machine.push_old_text(machine.byte()),
    0x58: lambda machine: machine.push_text(machine.number(4)),
    0x5D: lambda machine: machine.push([]),
    0x61: _Machine.append,
    0x62: _Machine.build,
    0x63: _Machine.named_global,
    0x65: lambda machine: machine.extend(machine.since_mark()),
    0x68: lambda machine: machine.recall(machine.byte()),
    0x6A: lambda machine: machine.recall(machine.number(4)),
    0x71: lambda machine: machine.remember(machine.byte()),
    0x72: lambda machine: machine.remember(machine.number(4)),
    0x73: _Machine.set_item,
    0x74: lambda machine: machine.push(tuple(machine.since_mark())),
    0x75: lambda machine: machine.set_items(machine.since_mark()),
    0x7D: lambda machine: machine.push({}),
    0x80: _Machine.protocol,
    0x81: _Machine.reduce,
    0x85: lambda machine: machine.make_tuple(1),
    0x86: lambda machine: machine.make_tuple(2),
    0x87: lambda machine: machine.make_tuple(3),
    0x88: lambda machine: machine.push(value=True),
    0x89: lambda machine: machine.push(value=False),
    0x8A: lambda machine: machine.push_long(machine.byte()),
    0x8B: lambda machine: machine.push_long(machine.number(4)),
    0x8C: lambda machine: machine.push_text(machine.byte()),
    0x8D: lambda machine: machine.push_text(machine.number(8)),
    0x8E: lambda machine: machine.push_bytes(machine.number(8)),
    0x8F: lambda machine: machine.push([]),
    0x90: lambda machine: machine.extend(machine.since_mark()),
    0x91: lambda machine: machine.push(machine.since_mark()),
    0x92: _Machine.new_object_with_keywords,
    0x93: _Machine.stack_global,
    0x94: lambda machine: machine.remember(len(machine.memo)),
    0x95: _Machine.skip_frame,
    0x96: lambda machine: machine.push_bytes(machine.number(8)),
}
"""What each opcode does. A set is kept as a list, a frozenset too: their elements need no hashes here."""
