"""Where in a pickled object its tensors are, and the names that they get.

A tensor's name is the keys and positions that lead to it, joined by dots: `state.0.exp_avg`. Of a pickled module the
names are those of its `state_dict()`. Of two tensors whose names would be equal (`{"a.b": …, "a": {"b": …}}`) the
second is called `a.b#2`.

Trainers put the weights under one key and their own state beside it. Where one well-known key holds weights and
everything beside it is a trainer's state or an average of the same weights, the weights are named as they are inside
that key, which is how an export to safetensors names them, and the rest is passed over with a remark.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, NamedTuple, TypeVar

from jaynes_audit.analyzers.checkpoints.pytorch.objects import Global, Record, Storage, Unreadable, View, unsafe
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted

DEEPEST = 200  # containers inside each other; a module is three for each level of modules
LONGEST_NAME = 1_000  # characters
MOST_CHARACTERS = 1 << 26  # of all names together: 400,000 tensors with names of 160
WITHOUT_NAME = "tensor"  # what a file's only tensor is called, when nothing leads to it
MODULE_PARTS = ("_parameters", "_buffers", "_modules")
PAIR = 2
ORDERED_DICT = Global("collections", "OrderedDict")

WRAPPERS: frozenset[str] = frozenset(
    {
        "state_dict",  # Lightning, timm, OpenCLIP, MMEngine, MoCo
        "model_state_dict",  # PyTorch's tutorials, Whisper
        "model",  # fairseq, detectron2, MAE, DETR, torchvision's references, Megatron-LM, ultralytics
        "model_state",  # SlowFast, pycls
        "module",  # DeepSpeed's mp_rank_*_model_states.pt
        "net",
        "network",
        "params",  # BasicSR
        "weights",
        "encoder",  # I-JEPA
        "teacher",  # DINO
    }
)
"""Keys under which trainers keep the weights."""

AVERAGES: frozenset[str] = frozenset(
    {"ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "params_ema", "target_encoder", "student"}
)
"""Keys of a second copy of the weights, which is read only where there is no first."""

TRAINER_WORDS = frozenset(
    [
        "callbacks",
        "criterion",
        "hyper",
        "loss",
        "opt",
        "optim",
        "optimizer",
        "optimizers",
        "random",
        "rng",
        "sampler",
        "scaler",
        "sched",
        "scheduler",
        "schedulers",
    ]
)
TRAINER_KEYS = frozenset(
    [
        "amp",
        "args",
        "cfg",
        "config",
        "epoch",
        "extra_state",
        "global_step",
        "history",
        "iteration",
        "loops",
        "metrics",
        "step",
        "trainer",
    ]
)
"""Words in the keys of a trainer's own state, such as `cuda_rng_state`, and whole keys of it, in lower case."""

Of = TypeVar("Of")


@dataclass(frozen=True, slots=True)
class Located(Generic[Of]):
    """A tensor by the keys that lead to it: the outermost one, and the rest joined by dots, empty where none is."""

    top: str
    rest: str
    tensor: Of

    @property
    def name(self) -> str:
        """All keys joined by dots."""
        return f"{self.top}.{self.rest}" if self.rest else self.top


@dataclass(frozen=True, slots=True)
class Named(Generic[Of]):
    """A tensor and the name it gets, which no other of the file has."""

    name: str
    tensor: Of


@dataclass(frozen=True, slots=True)
class Found(Generic[Of]):
    """The tensors of a pickled object, and what was passed over."""

    tensors: tuple[Named[Of], ...]
    remarks: tuple[str, ...] = ()


Tensorial = View | Unreadable


def find_tensors(root: object) -> Found[Tensorial]:
    """All tensors in a pickled object, in the order of its keys, each under a name of its own.

    Raises:
        RefusedFile: JN020 when containers are nested too deeply, or names are too long for any checkpoint.
    """
    walk = _Walk()
    located = list(walk.tensors(root))
    is_mapping = isinstance(root, dict) or (isinstance(root, Record) and root.callee == ORDERED_DICT)
    found = named_tensors(located) if is_mapping else Found(_plainly_named(located))
    if not walk.arrays:
        return found
    arrays = "a NumPy array" if walk.arrays == 1 else f"{walk.arrays:,} NumPy arrays"
    remark = f"passed over {arrays} inside the pickle: only tensors are audited"
    return replace(found, remarks=(*found.remarks, remark))


def named_tensors(located: Sequence[Located[Of]]) -> Found[Of]:
    """The tensors that are the model's weights, where it is clear which they are, with a remark about the others."""
    tops = dict.fromkeys(each.top for each in located)
    containers = {each.top for each in located if each.rest}
    wrappers = [top for top in tops if top in WRAPPERS and top in containers]
    wrappers = wrappers or [top for top in tops if top in AVERAGES and top in containers][:1]
    if not wrappers:
        return Found(_plainly_named(located))
    passed_over = {top for top in tops if top not in wrappers and (top in AVERAGES or _is_trainer_state(top))}
    kept = [each for each in located if each.top not in passed_over]
    is_clear = len(tops) - len(passed_over) == 1
    remarks = []
    if is_clear:
        remarks.append(f"the tensors stand under the key {quoted(wrappers[0])} and are named without it")
    if passed_over:
        tops_passed_over = [top for top in tops if top in passed_over]
        count = len(located) - len(kept)
        tensors = "1 tensor" if count == 1 else f"{count:,} tensors"
        remarks.append(f"passed over what belongs to the trainer, {tensors} under {listed(tops_passed_over)}")
    named = _unique((each.rest if is_clear else each.name, each.tensor) for each in kept)
    return Found(tuple(named), tuple(remarks))


def _plainly_named(located: Sequence[Located[Of]]) -> tuple[Named[Of], ...]:
    return tuple(_unique((each.name, each.tensor) for each in located))


def _is_trainer_state(key: str) -> bool:
    key = key.casefold()
    return key in TRAINER_KEYS or not TRAINER_WORDS.isdisjoint(key.split("_"))


def _unique(tensors: Iterable[tuple[str, Of]]) -> Iterator[Named[Of]]:
    """Each tensor under its name, or with a number behind it where that name is taken."""
    taken: dict[str, int] = {}
    for full_name, tensor in tensors:
        name = full_name
        while name in taken:
            taken[name] += 1
            name = f"{name}#{taken[name]}"
        taken[name] = 1
        yield Named(name, tensor)


# ---- the walk


class _Keys(NamedTuple):
    """The keys that lead to a value, each linked to the one before: deep values share what leads to them."""

    before: "_Keys | None"
    key: str


class _Walk:
    """One walk over an object. Each container is entered once, so that neither cycles nor copies of copies are long."""

    def __init__(self) -> None:
        self.arrays = 0
        self._seen: set[int] = set()
        self._characters = 0

    def tensors(self, root: object) -> Iterator[Located[Tensorial]]:
        waiting: list[tuple[object, _Keys | None, int]] = [(root, None, 0)]
        while waiting:
            value, keys, depth = waiting.pop()
            if isinstance(value, Storage):
                yield self._located(keys, _as_view(value))
            elif isinstance(value, Tensorial):
                yield self._located(keys, value)
            elif self._is_new(value):
                if depth == DEEPEST:
                    raise unsafe(f"nests containers more than {DEEPEST} deep", "nesting-too-deep")
                inside = [
                    (part, keys if key is None else _Keys(keys, key), depth + 1)
                    for key, part in self._parts(value)
                    if isinstance(part, _WORTH_A_LOOK)
                ]
                waiting += reversed(inside)

    def _is_new(self, container: object) -> bool:
        """Whether it is met for the first time."""
        is_new = id(container) not in self._seen
        self._seen.add(id(container))
        return is_new

    def _located(self, keys: _Keys | None, tensor: Tensorial) -> Located[Tensorial]:
        texts = []
        while keys is not None:
            texts.append(keys.key)
            keys = keys.before
        length = sum(map(len, texts)) + len(texts)
        self._characters += length
        if length > LONGEST_NAME or self._characters > MOST_CHARACTERS:
            raise unsafe("has tensors with longer names than any checkpoint", "name-too-long")
        # Python's pickles can hold halves of surrogate pairs, which no report could write.
        *rest, top = [text.encode("utf-8", "backslashreplace").decode("utf-8") for text in texts] or [WITHOUT_NAME]
        return Located(top, ".".join(reversed(rest)), tensor)

    def _parts(self, value: object) -> Iterator[tuple[str | None, object]]:
        """What is inside a container, each with the key that leads to it, None where the container's own do."""
        match value:
            case dict():
                yield from _entries(value.items())
            case list() | tuple():
                yield from _positions(value)
            case Record():
                self.arrays += isinstance(value.callee, Global) and value.callee.name == "_reconstruct"
                yield from self._arguments(value)
                for state in value.state if isinstance(value.state, tuple) else (value.state,):
                    yield from self._state(state)
                yield from _entries(value.entries)
                yield from _positions(value.elements)

    def _arguments(self, record: Record) -> Iterator[tuple[str | None, object]]:
        """What a call was given: an ordered dict its entries, in a list of pairs or a dict, others their arguments."""
        match record.arguments:
            case (list() as pairs,) if record.callee == ORDERED_DICT:
                if self._is_new(pairs):
                    yield from _entries(pair if _is_pair(pair) else (None, pair) for pair in pairs)
            case (argument,) if record.callee == ORDERED_DICT:
                yield None, argument
            case tuple() as arguments:
                if self._is_new(arguments):
                    yield from _positions(arguments)
            case argument:
                yield None, argument

    def _state(self, state: object) -> Iterator[tuple[str | None, object]]:
        """What a state holds: of a module what its `state_dict()` has, in the same order."""
        if not isinstance(state, dict):
            yield None, state
        elif self._is_new(state):
            if MODULE_PARTS[0] in state:
                yield from ((None, state[kind]) for kind in MODULE_PARTS if kind in state)
            else:
                yield from _entries(state.items())


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == PAIR


def _as_view(storage: Storage) -> View:
    """A storage that was saved by itself, as the tensor of its elements."""
    return View(storage, storage.element, 0, (storage.size // storage.element.size,), (1,))


def _entries(items: Iterable[Sequence[object]]) -> Iterator[tuple[str, object]]:
    for position, (key, part) in enumerate(items):
        if isinstance(key, str):
            yield key, part
        elif isinstance(key, int | float | Global) or key is None:
            yield str(key), part
        else:
            yield str(position), part


def _positions(parts: Iterable[object]) -> Iterator[tuple[str, object]]:
    for position, part in enumerate(parts):
        yield str(position), part


_WORTH_A_LOOK = (dict, list, tuple, Record, View, Unreadable, Storage)
"""Where a tensor could be. Most of what a pickle holds is text and numbers."""
