"""From an ONNX model to its weights: of the graph, of the graphs inside it, and of its functions.

The model is walked in its file, field by field, and never parsed into objects: numbers in `raw_data`, and float32 and
float64 in fields of their own, are read in place, whatever the size of the file. Source: `onnx/onnx.proto` of ONNX
1.23. The names are those of the format: PyTorch's exporter keeps a parameter's name, but turns some matrices to
(inputs, outputs) under a new one, as in `onnx::MatMul_12`.

A tensor in a graph inside the graph, or in a function, has the way to it before its name. A Constant node's tensor has
the name of what the node gives; those of whole numbers or of a single one are settings and not weights, and are passed
over. So are training graphs.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from enum import IntEnum
from io import BytesIO
from itertools import islice
from operator import attrgetter
from typing import BinaryIO

from jaynes_audit.analyzers.checkpoints.onnx_model.external import Neighbours
from jaynes_audit.analyzers.checkpoints.onnx_model.weights import LONGEST_TEXT, Message, read_message, tensor_of
from jaynes_audit.analyzers.checkpoints.onnx_model.wire import WRITE_AGAIN, Field, Form, Wire, bad
from jaynes_audit.analyzers.checkpoints.places import Place
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.checkpoints.tensor import Defect, Tensor, WeightFile
from jaynes_audit.analyzers.errors import RefusedFile

LATEST_VERSION = 40  # of the format itself; ONNX 1.23 writes 14
LONGEST_HEAD = 12  # bytes, of a field's number and length
FIRST_PRINTABLE = 0x20
BLANKS = frozenset(b"\t\n\r")
MOST_TENSORS = 200_000  # several times those of the largest models
MOST_FIELDS_OF_A_NODE = 10_000
LONGEST_NAME = 1_000  # characters, with the way to it
MOST_CHARACTERS = 1 << 24  # of all names together: 100,000 tensors with names of 160
DEEPEST = 32  # graphs within graphs; protobuf's own parsers stop at 100 messages, which are 33 graphs

NUMBER, PART = frozenset({Form.VARINT}), frozenset({Form.DELIMITED})


class Model(IntEnum):
    """The fields of a ModelProto, by number."""

    IR_VERSION = 1
    PRODUCER_NAME = 2
    PRODUCER_VERSION = 3
    DOMAIN = 4
    MODEL_VERSION = 5
    DOC_STRING = 6
    GRAPH = 7
    OPSET_IMPORT = 8
    METADATA_PROPS = 14
    TRAINING_INFO = 20
    FUNCTIONS = 25
    CONFIGURATION = 26


class Graph(IntEnum):
    """The fields of a GraphProto that are read or come first in one, by number."""

    NODE = 1
    NAME = 2
    INITIALIZER = 5
    DOC_STRING = 10
    INPUT = 11
    OUTPUT = 12
    VALUE_INFO = 13
    SPARSE_INITIALIZER = 15


class Function(IntEnum):
    """The fields of a FunctionProto that are read, by number."""

    NAME = 1
    NODE = 7


class Node(IntEnum):
    """The fields of a NodeProto that are read, by number."""

    OUTPUT = 2
    NAME = 3
    OP_TYPE = 4
    ATTRIBUTE = 5


class Attribute(IntEnum):
    """The fields of an AttributeProto that are read, by number."""

    NAME = 1
    TENSOR = 5
    GRAPH = 6
    TENSORS = 10
    GRAPHS = 11
    SPARSE_TENSOR = 22
    SPARSE_TENSORS = 23


Forms = dict[int, frozenset[Form]]
"""What is read of a message: the fields by number, and the forms that each may have."""

_MODEL: Forms = {**dict.fromkeys(Model, PART), Model.IR_VERSION: NUMBER, Model.MODEL_VERSION: NUMBER}
_GRAPH: Forms = {**dict.fromkeys(Graph, PART)}
_NODE: Forms = {**dict.fromkeys(Node, PART)}
_ATTRIBUTE: Forms = {**dict.fromkeys(Attribute, PART)}
_SPARSE: Forms = {1: PART}  # a SparseTensorProto's values: a TensorProto that has the whole tensor's name

_GRAPHS = frozenset({Attribute.GRAPH, Attribute.GRAPHS})
_SPARSES = frozenset({Attribute.SPARSE_TENSOR, Attribute.SPARSE_TENSORS})
CONSTANT = "Constant"

QUANTISED = frozenset(
    {"DequantizeLinear", "QLinearMatMul", "QLinearConv", "MatMulInteger", "ConvInteger"}
    | {"MatMulNBits", "MatMulBnb4", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "GatherBlockQuantized"}
    | {"QGemm", "QAttention", "QEmbedLayerNormalization"}
)
"""Operators whose weights are a quantiser's codes: those of ONNX, then those of ONNX Runtime's own domain."""


def looks_like_onnx(head: bytes, size: int) -> bool:
    """Whether the first bytes begin a model: its version, then nothing that a model has not, as far as its graph."""
    wire = Wire(BytesIO(head), size)
    reached = 0
    with suppress(RefusedFile):  # at the latest where `head` ends
        for each in wire.fields(0, size, _MODEL):
            is_version = each.number == Model.IR_VERSION and 0 < each.value <= LATEST_VERSION
            if is_version != (reached == 0) or each.start - reached > LONGEST_HEAD:
                return False
            if each.number == Model.GRAPH:
                return _begins_graph(wire, each, head)
            if each.number == Model.DOC_STRING and each.end > len(head):
                return _is_text(head[each.start :])
            reached = each.end
    return False


def _begins_graph(wire: Wire, at: Field, head: bytes) -> bool:
    """Whether a graph begins with its name, or with a part that begins as one must."""
    first = next(wire.fields(at.start, at.end, _GRAPH), None)
    if first is None or first.start - at.start > LONGEST_HEAD:
        return False
    if first.number in {Graph.NAME, Graph.DOC_STRING}:
        return _is_text(head[first.start : first.end])
    inner = next(wire.fields(first.start, first.end, dict.fromkeys(range(1, 15), NUMBER | PART)), None)
    if inner is None or inner.start - first.start > LONGEST_HEAD:
        return False
    is_tensor = first.number in {Graph.INITIALIZER, Graph.SPARSE_INITIALIZER}
    return is_tensor or (inner.form in PART and _is_text(head[inner.start : inner.end]))


def _is_text(content: bytes) -> bool:
    return bool(content) and all(byte >= FIRST_PRINTABLE or byte in BLANKS for byte in content)


def read_onnx(stream: BinaryIO, file: Place, size: int) -> WeightFile:
    """The weights of an opened ONNX model. What is wrong with one tensor is a defect, and the others are read.

    Of a sparse tensor the values are taken that are stored. Two tensors in the very same bytes of another file are one
    and its alias.

    Raises:
        RefusedFile: JN003 when it is not built as a model must be, JN001 when it is cut off.
        CouldNotRead: as the stream does, and when a file beside it cannot be opened.
    """
    wire, neighbours = Wire(stream, size), Neighbours(file)
    walk = _Walk(wire)
    messages = walk.messages()
    tensors: list[Tensor] = []
    undecoded: dict[str, str] = {}
    refused: dict[tuple[str, str, str], list[str]] = {}
    for name, message in messages.items():
        try:
            match tensor_of(message, name, wire, neighbours):
                case str(reason):
                    undecoded[name] = reason
                case Tensor() as tensor:
                    tensors.append(tensor)
        except RefusedFile as refusal:
            refused.setdefault((refusal.rule, refusal.case, str(refusal)), []).append(name)
    kept, aliases, overlapping = _told_apart(tensors)
    if overlapping:
        key = ("JN004", "onnx-external-overlap", f"they share some bytes with another tensor; {WRITE_AGAIN}")
        refused[key] = overlapping
    defects = tuple(
        Defect(rule=rule, case=case, file=str(file), sentence=f"{listed(names)} cannot be read: {sentence}")
        for (rule, case, sentence), names in refused.items()
    )
    return WeightFile(
        file=file, tensors=kept, aliases=aliases, undecoded=undecoded, defects=defects, remarks=walk.remarks()
    )


def _told_apart(tensors: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], dict[str, str], list[str]]:
    """The tensors without those that have the bytes of another, the aliases among those, and the others."""
    aliases: dict[str, str] = {}
    overlapping: list[str] = []
    firsts: dict[Tensor, str] = {}
    reached: dict[Place, int] = {}
    for tensor in sorted(tensors, key=attrgetter("start", "end")):
        if tensor.start == tensor.end:
            continue
        nameless, end = replace(tensor, name=""), reached.get(tensor.file, 0)
        if tensor.start >= end:
            firsts[nameless] = tensor.name
        elif nameless in firsts:
            aliases[tensor.name] = firsts[nameless]
        else:
            overlapping.append(tensor.name)
        reached[tensor.file] = max(end, tensor.end)
    dropped = {*aliases, *overlapping}
    return tuple(tensor for tensor in tensors if tensor.name not in dropped), aliases, overlapping


class _Walk:
    """A walk over a model's messages, which counts what a reader of the report should know."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._quantised: Counter[str] = Counter()
        self._sparse: list[str] = []
        self._trains = False

    def messages(self) -> dict[str, Message]:
        """All tensors' messages, by the tensors' names."""
        found: dict[str, Message] = {}
        characters = 0
        for name, message in self._model():
            characters += len(_bounded(name))
            if characters > MOST_CHARACTERS:
                fault = f"has tensors whose names have more than {MOST_CHARACTERS:,} characters"
                raise bad(fault, "onnx-name-too-long")
            if name in found:
                raise bad(f"has two tensors called {quoted(name)}", "onnx-duplicate-name")
            if len(found) == MOST_TENSORS:
                raise bad(f"has more than {MOST_TENSORS:,} tensors", "onnx-too-many-tensors")
            found[name] = message
        return found

    def remarks(self) -> tuple[str, ...]:
        """What was met on the way."""
        remarks = []
        if self._quantised:
            remarks.append(
                f"{self._quantised.total():,} of its nodes compute with a quantiser's codes "
                f"({listed([*self._quantised])}): its whole numbers are those, and are left as they are"
            )
        if self._sparse:
            remarks.append(f"sparse tensors are taken for the values that they store: {listed(self._sparse)}")
        if self._trains:
            remarks.append("its training graphs were passed over")
        return tuple(remarks)

    def _model(self) -> Iterator[tuple[str, Message]]:
        has_graph = False
        for each in self._wire.fields(0, self._wire.size, _MODEL):
            if each.number == Model.GRAPH:
                has_graph = True
                yield from self._graph(each, "", 1)
            if each.number == Model.FUNCTIONS:
                yield from self._function(each)
            self._trains |= each.number == Model.TRAINING_INFO
        if not has_graph:
            raise bad("has no graph", "onnx-no-graph")

    def _graph(self, at: Field, way: str, depth: int) -> Iterator[tuple[str, Message]]:
        if depth > DEEPEST:
            raise bad(f"nests more than {DEEPEST} graphs", "onnx-too-deep")
        for each in self._wire.fields(at.start, at.end, _GRAPH):
            match each.number:
                case Graph.NODE:
                    yield from self._node(each, way, depth)
                case Graph.INITIALIZER:
                    message = read_message(self._wire, each)
                    yield way + message.name, message
                case Graph.SPARSE_INITIALIZER:
                    for message in self._values(each):
                        name = way + message.name
                        self._sparse.append(name)
                        yield name, message

    def _function(self, at: Field) -> Iterator[tuple[str, Message]]:
        way = ""
        for each in self._wire.fields(at.start, at.end, {Function.NAME: PART}):
            way = f"{self._text(each)}."
        for each in self._wire.fields(at.start, at.end, {Function.NODE: PART}):
            yield from self._node(each, way, 1)

    def _node(self, at: Field, way: str, depth: int) -> Iterator[tuple[str, Message]]:
        fields = self._few(at, _NODE)
        first = {each.number: each for each in reversed(fields)}
        operator = self._text(first[Node.OP_TYPE]) if Node.OP_TYPE in first else ""
        if operator in QUANTISED:
            self._quantised[operator] += 1
        for each in fields:
            if each.number != Node.ATTRIBUTE:
                continue
            parts = self._few(each, _ATTRIBUTE)
            if all(part.number == Attribute.NAME for part in parts):
                continue
            label = first.get(Node.OUTPUT) if operator == CONSTANT else first.get(Node.NAME, first.get(Node.OUTPUT))
            name = way + (self._text(label) if label else operator)
            if operator != CONSTANT:
                name += "".join(f".{self._text(part)}" for part in parts if part.number == Attribute.NAME)
            yield from self._attribute(parts, _bounded(name), depth)

    def _attribute(self, parts: list[Field], name: str, depth: int) -> Iterator[tuple[str, Message]]:
        values = [part for part in parts if part.number != Attribute.NAME]
        for index, part in enumerate(values):
            own = f"{name}.{index}" if len(values) > 1 else name
            if part.number in _GRAPHS:
                yield from self._graph(part, f"{own}.", depth + 1)
                continue
            messages = self._values(part) if part.number in _SPARSES else iter([read_message(self._wire, part)])
            yield from ((own, message) for message in messages if message.is_weight)

    def _values(self, at: Field) -> Iterator[Message]:
        """The stored values of a sparse tensor."""
        for each in self._wire.fields(at.start, at.end, _SPARSE):
            yield read_message(self._wire, each)

    def _few(self, at: Field, forms: Forms) -> list[Field]:
        fields = list(islice(self._wire.fields(at.start, at.end, forms), MOST_FIELDS_OF_A_NODE + 1))
        if len(fields) > MOST_FIELDS_OF_A_NODE:
            raise bad(f"has a node with more than {MOST_FIELDS_OF_A_NODE:,} fields", "onnx-too-many-fields")
        return fields

    def _text(self, at: Field) -> str:
        return self._wire.text(at, LONGEST_TEXT)


def _bounded(name: str) -> str:
    """A name, if it is not too long: those inside it begin with it over and over, and would outgrow the file."""
    if len(name) > LONGEST_NAME:
        raise bad(f"has a name of {len(name):,} characters where {LONGEST_NAME:,} are the limit", "onnx-name-too-long")
    return name
