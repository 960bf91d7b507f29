"""Checkpoint or config.json -> the first weights of a network: its matrices drawn from lognormals with random signs.

What is no weight matrix begins as it does in an untrained network: gains at 1, biases at 0. Buffers that nobody trains
are copied. Only headers are read for it, and the bytes of those buffers.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jaynes_audit.analyzers.audit import Audit
from jaynes_audit.analyzers.checkpoints.configs import read_config
from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted, quoted_path
from jaynes_audit.analyzers.checkpoints.tensor import Checkpoint, Tensor
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.chunks import Layer, layers_of
from jaynes_audit.analyzers.distributions.lognormal import LognormalFit
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import BITS, COMPLEX, FLOATS, NUMPY_DTYPES, Dtype, values
from jaynes_audit.analyzers.errors import CouldNotRead, NothingToAudit, RefusedFile, UsageError
from jaynes_audit.analyzers.roles import ENDS, HIDDEN_LAYERS, Part, Role, Stripes
from jaynes_audit.analyzers.roles.settings import word

Floats = npt.NDArray[np.float64]

CHUNK_WEIGHTS = 1 << 16  # drawn at once: they stay in a cache. Another number would give other weights
COPIED_BYTES = 8 << 20  # copied at once
HEADER_ALIGNMENT = 8  # bytes; the safetensors library pads its headers to as many

DRAWN_ROLES = HIDDEN_LAYERS | ENDS | {Role.ROUTER}
DRAWN_DTYPES = (Dtype.F16, Dtype.BF16, Dtype.F32, Dtype.F64)

SMALLEST_LOG2 = {Dtype.F16: -24, Dtype.BF16: -133, Dtype.F32: -149, Dtype.F64: -1074}
"""Binary logarithm of the least positive number of a format; what is below half of it becomes 0."""

# The norms of these multiply by 1 + gain, so that a gain begins at 0; those of their vision towers do not.
GAINS_LESS_ONE = frozenset(
    {"gemma", "gemma2", "gemma3", "gemma3_text", "paligemma", "recurrent_gemma", "t5gemma", "t5gemma2"} | {"vaultgemma"}
)
VISION = "vision"

# Settings by which a config.json could make transformers run code or fetch weights that are not here.
REACHING_OUT = frozenset(
    {"auto_map", "attn_implementation", "_attn_implementation", "experts_implementation", "quantization_config"}
    | {"use_kernels", "use_pretrained_backbone"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lognormal:
    """LN(mu, sigma): ln|w| is normal with mean `log_mean` and standard deviation `log_sigma`. Signs are even."""

    log_mean: float
    log_sigma: float


Laws = Callable[[Layer], Lognormal]
"""Which law the weights of a layer are drawn from."""


class Scale(StrEnum):
    """What the expected root mean square of a matrix is made equal to.

    NONE leaves it to the law, HE is sqrt(2/fan_in) (He et al. 2015), GLOROT is sqrt(2/(fan_in + fan_out)) (Glorot and
    Bengio 2010).
    """

    NONE = "none"
    HE = "he"
    GLOROT = "glorot"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Weights to be drawn: a matrix of `rows x columns`, and the law of each part of it."""

    rows: int
    columns: int
    parts: tuple[tuple[Part, Lognormal], ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    """Numbers that fill a tensor in C order, over and over; their count divides the tensor's."""

    numbers: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Copied:
    """The bytes of a tensor as they stand in its file."""

    tensor: Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Initial:
    """A tensor to be written, and what it begins with."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...]
    content: Drawn | Repeated | Copied

    @property
    def stored_bytes(self) -> int:
        """Length in the file, in bytes."""
        return math.prod(self.shape) * BITS[self.dtype] // 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """All tensors to be written, in the order of their bytes, which follows from their names and dtypes alone.

    `aliases` are tied tensors that are not stored, each with the one it is tied to. `remarks` says what was done that
    nobody asked for.
    """

    tensors: tuple[Initial, ...]
    aliases: Mapping[str, str]
    remarks: tuple[str, ...]

    @property
    def matrices(self) -> int:
        """Weight matrices that are drawn; a fused tensor counts as many as it has parts."""
        return sum(len(each.content.parts) for each in self.tensors if isinstance(each.content, Drawn))

    @property
    def weights(self) -> int:
        """Weights that are drawn."""
        return sum(math.prod(each.shape) for each in self.tensors if isinstance(each.content, Drawn))

    @property
    def stored_bytes(self) -> int:
        """Length of all tensors in the file, in bytes, the header apart."""
        return sum(each.stored_bytes for each in self.tensors)


# ---- which law


def one_law(law: Lognormal) -> Laws:
    """Give every layer the same law."""
    return lambda _: law


def own_laws(audit: Audit) -> Laws:
    """Give every layer the lognormal that was fitted to it.

    The laws raise UsageError for a layer that could not be fitted, and CouldNotRead for one that could not be read.
    """
    fits = {layer.name: layer.fit for layer in audit}
    unread = {each.name: each.explanation for each in audit.left_out}

    def own_law(layer: Layer) -> Lognormal:
        if layer.name not in fits:
            raise CouldNotRead(f"{quoted(layer.name)} cannot be fitted: {unread.get(layer.name, 'it was not read')}")
        match fits[layer.name]:
            case LognormalFit(moments=moments):
                return Lognormal(log_mean=moments.log_mean, log_sigma=moments.log_sigma)
            case NotFitted(reason=reason):
                raise UsageError(
                    f"{quoted(layer.name)} has no law of its own ({reason}); give --mu and --sigma instead"
                )

    return own_law


def scaled(laws: Laws, scale: Scale) -> Laws:
    """Shift each law so that the expected rms is what `scale` asks for. Its `log_sigma`, the shape, stays.

    E w^2 = exp(2 mu + 2 sigma^2), so mu = ln(rms) - sigma^2 (Johnson, Kotz and Balakrishnan 1994, chapter 14).
    """
    if scale is Scale.NONE:
        return laws

    def shifted(layer: Layer) -> Lognormal:
        law, part = laws(layer), layer.part
        fan = part.fan_in if scale is Scale.HE else part.fan_in + part.fan_out
        return replace(law, log_mean=0.5 * math.log(2 / fan) - law.log_sigma * law.log_sigma)

    return shifted


# ---- what each tensor begins with


def sample(checkpoint: Checkpoint, laws: Laws, dtype: Dtype | None) -> Sample:
    """Decide what every tensor begins with. Nothing is drawn yet, and no weight is read.

    Floats are stored as `dtype`, or each as it is stored now when that is None; what is copied stays as it is.

    Raises:
        CouldNotRead: when a part of the checkpoint is missing or broken, so that not all shapes are known.
        NothingToAudit: when there is no weight matrix to draw.
        UsageError: when a tensor has no weights that could be drawn, or a pipeline holds several networks.
        And what `laws` raises.
    """
    _refuse_incomplete(checkpoint)
    tensors: list[Initial] = []
    left_out: list[str] = []
    for tensor in checkpoint.tensors:
        content = _content(tensor, checkpoint.config_of(tensor.name), laws)
        if isinstance(content, Copied) and tensor.stored_bytes != _header_bytes(tensor):
            left_out.append(tensor.name)
            continue
        stored = tensor.dtype if dtype is None or isinstance(content, Copied) else dtype
        if not isinstance(content, Copied) and stored not in DRAWN_DTYPES:
            raise UsageError(f"{quoted(tensor.name)} is stored as {stored}, which is not drawn; choose a --dtype")
        tensors.append(Initial(name=tensor.name, dtype=stored, shape=tensor.shape, content=content))
    if not any(isinstance(each.content, Drawn) for each in tensors):
        raise NothingToAudit(f"{quoted_path(checkpoint.location)} holds no weight matrix to draw")
    return Sample(
        # Widest first, as the safetensors library has it: every tensor then begins at a multiple of its width.
        tensors=tuple(sorted(tensors, key=lambda each: (-BITS[each.dtype], each.name))),
        aliases=checkpoint.aliases,
        remarks=(*checkpoint.remarks, *_remarks(tensors, left_out)),
    )


def _refuse_incomplete(checkpoint: Checkpoint) -> None:
    if checkpoint.defects:
        defect = checkpoint.defects[0]
        raise CouldNotRead(f"not every shape is known: {quoted_path(defect.file)}: {defect.sentence}")
    if checkpoint.missing:
        raise CouldNotRead(f"not every shape is known: no shard holds {listed(checkpoint.missing)}")
    components = [prefix for prefix in checkpoint.configs if prefix]
    if components:
        raise UsageError(
            f"{quoted_path(checkpoint.location)} is a pipeline of several networks; name one of {listed(components)}"
        )


def _header_bytes(tensor: Tensor) -> int:
    """The length that shape and dtype ask for; a tensor known from a config.json has no bytes."""
    return math.prod(tensor.shape) * BITS[tensor.dtype] // 8


def _content(tensor: Tensor, config: Mapping[str, object], laws: Laws) -> Drawn | Repeated | Copied:
    if 0 in tensor.shape:
        return Copied(tensor)
    layers = list(layers_of(tensor, config))
    is_drawn = all(layer.part.role in DRAWN_ROLES and layer.part.fan_in for layer in layers)
    quantised = tensor.stored_as != tensor.dtype
    if tensor.dtype not in FLOATS or tensor.dtype in COMPLEX or quantised:
        if is_drawn and tensor.dtype is not Dtype.BOOL:
            raise UsageError(
                f"{quoted(tensor.name)} is stored as {tensor.stored_as}, codes and not weights; "
                "give a checkpoint with plain weights"
            )
        return Copied(tensor)
    if is_drawn:
        layout = layers[0].layout
        parts = tuple((layer.part, laws(layer)) for layer in layers)
        return Drawn(rows=layout.rows, columns=layout.columns, parts=parts)
    return _start(tensor, layers[0].part, config)


def _start(tensor: Tensor, part: Part, config: Mapping[str, object]) -> Repeated | Copied:
    """What a tensor that is no weight matrix begins with."""
    match part.role:
        case Role.NORM if word(config, "model_type") in GAINS_LESS_ONE and part.stack != VISION:
            return Repeated((0.0,))
        case Role.NORM | Role.SCALE | Role.SSM_D:
            return Repeated((1.0,))
        case Role.SSM_A_LOG if tensor.shape:
            # The state matrix A begins as -1, -2, ... -n: S4D-Real, as in Mamba (Gu and Dao 2023, section 3.6).
            return Repeated(tuple(math.log(number) for number in range(1, tensor.shape[-1] + 1)))
        case Role.BUFFER if tensor.name.endswith("running_var"):  # what a batch norm has seen, which is trained
            return Repeated((1.0,))
        case Role.BUFFER if not tensor.name.endswith("running_mean"):
            return Copied(tensor)
    return Repeated((0.0,))


def _remarks(tensors: Iterable[Initial], left_out: list[str]) -> Iterator[str]:
    copied = [each.name for each in tensors if isinstance(each.content, Copied) and each.stored_bytes]
    if copied:
        yield f"copied {len(copied):,} untrained tensors as they are: {listed(copied)}"
    if left_out:
        yield f"left out {len(left_out):,} buffers, whose content a config does not tell: {listed(left_out)}"
    lost: dict[Dtype, float] = {}
    for each in tensors:
        if isinstance(each.content, Drawn):
            lost[each.dtype] = lost.get(each.dtype, 0) + _expected_zeros(each.content, each.dtype)
    for dtype, number in lost.items():
        if number >= 1:
            yield f"about {number:,.0f} weights are smaller than {dtype} can hold and become 0"


def _expected_zeros(content: Drawn, dtype: Dtype) -> float:
    log_limit = (SMALLEST_LOG2[dtype] - 1) * math.log(2)
    return sum(
        len(part.rows)
        * len(part.columns)
        * 0.5
        * math.erfc((law.log_mean - log_limit) / (law.log_sigma * math.sqrt(2)))  # Phi(-z)
        for part, law in content.parts
    )


# ---- the bytes


def file_bytes(drawn: Sample, *, seed: int, metadata: Mapping[str, str]) -> Iterator[bytes]:
    """Give the safetensors file piece by piece.

    The weights of a tensor follow from `seed`, its name, shape and laws: neither other tensors nor the sharding of the
    checkpoint change them. Memory is bounded by some twenty mebibytes, or some forty bytes for each weight of a row of
    more than 65,536.

    Raises:
        UsageError: when a drawn weight is too large for its format.
        CouldNotRead: when bytes to be copied cannot be read.
    """
    yield _header(drawn, metadata)
    with Sources(Io.PREAD) as sources:
        for tensor in drawn.tensors:
            match tensor.content:
                case Drawn() as content:
                    yield from _drawn_bytes(tensor, content, seed)
                case Repeated(numbers):
                    yield from _repeated_bytes(tensor, numbers)
                case Copied(stored):
                    yield from _copied_bytes(stored, sources)


def _header(drawn: Sample, metadata: Mapping[str, str]) -> bytes:
    # A tie is recorded as `safetensors.torch.save_model` does: the tensor that is not stored, and the one that is.
    entries: dict[str, object] = {"__metadata__": {**metadata, **drawn.aliases}}
    end = 0
    for tensor in drawn.tensors:
        start, end = end, end + tensor.stored_bytes
        entries[tensor.name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _drawn_bytes(tensor: Initial, content: Drawn, seed: int) -> Iterator[bytes]:
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=tuple(tensor.name.encode())))
    column = np.arange(content.columns)
    in_columns = [_belongs(column, part.columns) for part, _ in content.parts]
    rows = max(1, CHUNK_WEIGHTS // content.columns)
    for top in range(0, content.rows, rows):
        row = np.arange(top, min(top + rows, content.rows))
        weights = rng.standard_normal((row.size, content.columns))
        for (part, law), of_part in zip(content.parts, in_columns, strict=True):
            if part.rows.start <= row[-1] and row[0] < part.rows.stop:  # a stack of experts has hundreds of parts
                here = _belongs(row, part.rows)[:, np.newaxis] & of_part
                np.multiply(weights, law.log_sigma, out=weights, where=here)
                np.add(weights, law.log_mean, out=weights, where=here)
        with np.errstate(over="ignore"):
            np.exp(weights, out=weights)
        coins = np.unpackbits(np.frombuffer(rng.bytes(-(-weights.size // 8)), np.uint8), count=weights.size)
        weights *= 1 - 2 * coins.view(np.int8).reshape(weights.shape)
        codes = encoded(weights, tensor.dtype)
        if not np.isfinite(values(codes, tensor.dtype)).all():
            raise UsageError(
                f"a weight of {quoted(tensor.name)} is too large for {tensor.dtype}; choose --dtype bf16 or a smaller "
                "sigma or mu"
            )
        yield codes.tobytes()


def _belongs(index: npt.NDArray[np.int64], stripes: Stripes) -> npt.NDArray[np.bool_]:
    """Which of the indices belong to the stripes."""
    place = (index - stripes.start) % stripes.period - stripes.first
    return (index >= stripes.start) & (index < stripes.stop) & (place >= 0) & (place < stripes.count)


def _repeated_bytes(tensor: Initial, numbers: tuple[float, ...]) -> Iterator[bytes]:
    codes = encoded(np.array(numbers), tensor.dtype)
    times = math.prod(tensor.shape) // codes.size
    at_once = max(1, CHUNK_WEIGHTS // codes.size)
    for done in range(0, times, at_once):
        yield np.tile(codes, min(at_once, times - done)).tobytes()


def _copied_bytes(stored: Tensor, sources: Sources) -> Iterator[bytes]:
    length = math.prod(stored.shape) * BITS[stored.dtype] // 8
    for start in range(0, length, COPIED_BYTES):
        try:
            yield bytes(sources.of(stored).read(start, min(start + COPIED_BYTES, length)))
        except RefusedFile as error:  # it became shorter after its header was read: no finding, but the end
            raise CouldNotRead(str(error)) from error


def encoded(numbers: Floats, dtype: Dtype) -> npt.NDArray[np.generic]:
    """Round numbers to the nearest of a format of DRAWN_DTYPES, ties to even, as stored codes of the same shape.

    What is too large becomes infinite. For BF16 the numbers are first rounded to float32.
    """
    with np.errstate(over="ignore"):
        if dtype is not Dtype.BF16:
            return numbers.astype(NUMPY_DTYPES[dtype])
        bits = numbers.astype(np.float32).view(np.uint32)
    # Half of a bfloat16 step, and one less where that would round a tie to an odd code.
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16).astype("<u2")


# ---- from a config alone


def checkpoint_of_config(path: Path) -> Checkpoint:
    """Give the tensors of the network that a config.json describes, as transformers would build it, without weights.

    Floats count as F32. A tensor has no bytes (`start` and `end` are 0) and its file is the config.

    Raises:
        CouldNotRead: when the config cannot be read.
        UsageError: when torch or transformers is not installed, or they cannot build the network.
    """
    config = read_config(path)
    if not config.values:
        raise CouldNotRead(f"{quoted_path(path)} describes no network: {'; '.join(config.remarks) or 'it is empty'}")
    network, state = _built(config.values, path)
    first_of: dict[int, str] = {}
    aliases: dict[str, str] = {}
    tensors: list[Tensor] = []
    for name, value in state.items():
        first = first_of.setdefault(id(value), name)
        if first != name:
            aliases[name] = first
            continue
        dtype = Dtype.F32 if value.is_floating_point() else Dtype.I64  # integers are left out whatever their width
        tensors.append(Tensor(name=name, dtype=dtype, shape=tuple(value.shape), file=path, start=0, end=0))
    return Checkpoint(
        location=str(path),
        tensors=tuple(tensors),
        files=(path,),
        configs={"": config.values},
        aliases=aliases,
        remarks=(*config.remarks, f"the names and shapes are those of {network}"),
    )


def _built(config: Mapping[str, object], path: Path) -> tuple[str, dict[str, Any]]:
    """Build the network on torch's meta device: what it is, and its tensors by name. The only place that knows torch.

    No code and no weight is fetched: the settings that could ask for it are dropped, at every depth.
    """
    try:
        torch, transformers = import_module("torch"), import_module("transformers")
    except ImportError as error:
        raise UsageError(
            f"the shapes of {quoted_path(path)} come from torch and transformers, and {error.name} is not installed: "
            "`pip install torch transformers`, or give a checkpoint instead"
        ) from error
    try:
        settings = transformers.CONFIG_MAPPING[config.get("model_type")].from_dict(_harmless(config))
        architectures = config.get("architectures")
        wanted = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
        named: Any = getattr(transformers, wanted, None)
        is_network = isinstance(named, type) and issubclass(named, transformers.PreTrainedModel)
        with torch.device("meta"):
            model = named(settings) if is_network else transformers.AutoModel.from_config(settings)
        network = f"{type(model).__name__} in transformers {transformers.__version__}"
        return network, model.state_dict(keep_vars=True)
    except Exception as error:  # a stranger's settings meet a large library: anything may fail
        raise UsageError(
            f"transformers cannot build what {quoted_path(path)} describes "
            f"({type(error).__name__}: {quoted(str(error))}); give a checkpoint instead"
        ) from error


def _harmless(settings: Mapping[str, object]) -> dict[str, object]:
    return {
        key: _harmless(value) if isinstance(value, Mapping) else value
        for key, value in settings.items()
        if key not in REACHING_OUT
    }
