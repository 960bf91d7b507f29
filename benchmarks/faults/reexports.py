"""Model -> pairs of files that hold the same weights, or weights that were meant to change: nothing is wrong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from benchmarks.faults.files import Format, in_format
from benchmarks.faults.model import Model, Tensors
from jaynes_audit.analyzers.rules.policy import Expectation

PREFIX = "language_model."
NOTHING_EXPECTED = Expectation()


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A model, and the container it is written in."""

    model: Model
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reexport:
    """What a checkpoint was when its baseline was written, what became of it, and what the project expects."""

    name: str
    before: Written
    after: Written
    expect: Expectation = NOTHING_EXPECTED


def reexports(model: Model) -> Iterator[Reexport]:
    """Give the healthy re-exports of a model in float32."""
    plain, half, short = (_in("safetensors", model, dtype) for dtype in ("F32", "BF16", "F16"))
    shards = _in("sharded", model, "BF16")
    pickled = _in("PyTorch", model, "F32")
    gguf = _in("GGUF", model, "F32"), _in("GGUF", model, "F16")
    again = Written(model=half.model.cast("F32"), container="safetensors")
    yield Reexport(name="the same again", before=plain, after=plain)
    yield Reexport(name="tensors in another order", before=half, after=_with_names(half, _backwards))
    yield Reexport(name="one file to three shards", before=half, after=shards)
    yield Reexport(name="three shards to one file", before=shards, after=half)
    yield Reexport(name="prefix added", before=half, after=_with_names(half, _prefixed))
    yield Reexport(name="prefix removed", before=_with_names(half, _prefixed), after=half)
    yield Reexport(name="fp32 -> bf16 -> fp32", before=plain, after=again)
    yield Reexport(name="fp32 -> bf16", before=plain, after=half, expect=Expectation(dtype="BF16"))
    yield Reexport(name="fp32 -> fp16", before=plain, after=short, expect=Expectation(dtype="F16"))
    yield Reexport(name="bf16 -> fp32", before=half, after=again, expect=Expectation(dtype="F32"))
    if pickled:
        yield Reexport(name="safetensors to PyTorch", before=plain, after=pickled)
        yield Reexport(name="PyTorch to safetensors", before=pickled, after=plain)
    if all(gguf) and len(gguf[0].model.tensors) == len(model.tensors):  # GGUF has no place for BERT's head
        yield Reexport(name="safetensors to GGUF", before=plain, after=gguf[0])
        yield Reexport(name="GGUF to safetensors", before=gguf[0], after=plain)
        yield Reexport(name="fp32 to GGUF fp16", before=plain, after=gguf[1], expect=Expectation(dtype="F16"))
    if model.following:
        following = replace(model, tensors=model.following)
        changed = Expectation(changed=("*",))
        for name, before, dtype in (("fp32", plain, "F32"), ("bf16", half, "BF16")):
            after = Written(model=following.cast(dtype), container="safetensors")
            yield Reexport(name=f"one more training step, {name}", before=before, after=after, expect=changed)


def _in(container: str, model: Model, dtype: str) -> Written | None:
    made = in_format(model, Format(container=container, dtype=dtype))
    return Written(model=made, container=container) if made else None


def _with_names(written: Written, change: Callable[[Tensors], Tensors]) -> Written:
    return replace(written, model=replace(written.model, tensors=change(written.model.tensors)))


def _backwards(tensors: Tensors) -> Tensors:
    return dict(reversed(tensors.items()))


def _prefixed(tensors: Tensors) -> Tensors:
    return {PREFIX + name: stored for name, stored in tensors.items()}
