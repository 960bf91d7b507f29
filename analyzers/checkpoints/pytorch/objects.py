"""What a checkpoint's pickle is made of, as plain data: names of globals, records, storages, and views of storages."""

from dataclasses import dataclass, field

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import RefusedFile

DO_NOT_LOAD = "do not load this file"


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or a function, as the pickle spells it. Only a name: it is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(slots=True, eq=False)
class Record:
    """What a class or a function would have made of its arguments, had it been called; kept, never called.

    `state` is what was to be set on it, `entries` and `elements` what was to be put into it. It can be changed, for a
    pickle fills its objects piece by piece.
    """

    callee: object
    arguments: object
    state: object = None
    entries: list[tuple[object, object]] = field(default_factory=list)
    elements: list[object] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class OddKey:
    """The key of a dict entry that is neither text nor a number. No two are equal, whatever they hold."""

    value: object


@dataclass(frozen=True, slots=True)
class Skipped:
    """So many bytes that the pickle holds as a value, and that were not read."""

    count: int


@dataclass(frozen=True, slots=True)
class Element:
    """One kind of number: PyTorch's name of it, its dtype here, and its size in bytes.

    Without a dtype it cannot be turned into numbers, and `reason` says why. `quantised` marks the codes of a quantiser.
    """

    name: str
    dtype: Dtype | None
    size: int
    reason: str = ""
    quantised: bool = False


@dataclass(frozen=True, slots=True)
class Storage:
    """The bytes that tensors are views of: the key that tells where they are, and how many bytes there must be.

    `base` counts the bytes before them in what is stored under the key: some old files name parts of a storage.
    """

    element: Element
    key: str
    stored_size: int
    base: int
    size: int


@dataclass(frozen=True, slots=True)
class Quantiser:
    """How codes become numbers: `(code - zero_point) * scale`, one pair for all, or one for each index on `axis`."""

    scales: "float | View"
    zero_points: "int | View"
    axis: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """A tensor: `shape` elements of a storage, `strides` apart from each other, the first at `offset`.

    All four count elements, and every element lies inside the storage. `conjugated` and `negated` are the lazy bits of
    complex tensors. `note` says what of a sparse or a nested tensor these elements are.
    """

    storage: Storage
    element: Element
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    quantiser: Quantiser | None = None
    conjugated: bool = False
    negated: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A tensor whose numbers the file does not hold, or not in a form that can be read without PyTorch, and why."""

    reason: str


def unsafe(fault: str, case: str, remedy: str = DO_NOT_LOAD) -> RefusedFile:
    """The refusal of a pickle that does what no checkpoint's does."""
    return RefusedFile(f"the pickle {fault}; {remedy}", rule="JN020", case=case)


def bad_layout(fault: str, case: str) -> RefusedFile:
    """The refusal of a pickle whose tensors do not fit their storages."""
    return RefusedFile(f"the pickle {fault}; {DO_NOT_LOAD}", rule="JN004", case=case)


def kind_of(value: object) -> str:
    """What a pickled value is, in words, for a refusal."""
    match value:
        case Global():
            return f"the name {quoted(str(value))}"
        case Record():
            return "an object of a class"
        case View() | Unreadable():
            return "a tensor"
        case Storage():
            return "a storage"
        case Skipped():
            return "bytes"
        case _:
            return _KINDS.get(type(value), "an unknown value")


_KINDS: dict[type, str] = {
    type(None): "None",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "text",
    bytes: "bytes",
    tuple: "a tuple",
    list: "a list",
    dict: "a dict",
}
