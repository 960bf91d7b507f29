"""Layers and the optimizer's tensors -> sums over outputs and inputs, in one pass and bounded memory."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.checkpoints.training_state.state import OptimizerState, ParameterGroup, ParameterState
from jaynes_audit.analyzers.checkpoints.windows import Sources
from jaynes_audit.analyzers.chunks import Layer, chunks
from jaynes_audit.analyzers.dtypes import BITS, COMPLEX, FLOATS, values
from jaynes_audit.analyzers.engine import in_order
from jaynes_audit.analyzers.errors import RefusedFile
from jaynes_audit.analyzers.sketch.extent import Extent
from jaynes_audit.analyzers.thermodynamics.sums import LONGEST_AXIS, OF_VECTORS, AxisSums, Density, Floats

WINDOW_WEIGHTS = 1 << 17  # a mebibyte in double precision; about six of them are at work at a time
MOST_STEPS = 1 << 53  # more cannot be counted in double precision, and nobody has made as many


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What the optimizer remembers of a tensor, and how it was set."""

    state: ParameterState
    group: ParameterGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The sums of layers by their names. `left_out` says of every other layer why it has none.

    `forgotten` says of layers whose sums are of weights alone why the optimizer's numbers for them were left out.
    """

    sums: Mapping[str, AxisSums] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    forgotten: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Means:
    """The stored means of one layer, and what makes a step of them.

    `first_factor` and `second_factor` correct for their start at zero; a factor or `epsilon` is None where the files
    do not tell it.
    """

    first: Tensor | None = None
    second: Tensor | None = None
    first_factor: float | None = None
    second_factor: float | None = None
    epsilon: float | None = None


NO_MEANS = _Means()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    layer: Layer
    means: _Means
    sources: Sources


def remembered_by_name(keys: Mapping[str, str], optimizer: OptimizerState) -> dict[str, Remembered]:
    """Give what is remembered of each tensor, by the keys that it was paired with, see `Pairing`."""
    states = {state.key: state for state in optimizer.parameters}
    return {
        name: Remembered(state=states[key], group=optimizer.groups[states[key].group])
        for name, key in keys.items()
        if key in states and states[key].group < len(optimizer.groups)
    }


def measure(
    layers: Sequence[Layer],
    remembered: Mapping[str, Remembered],
    sources: Sources,
    *,
    threads: int = 1,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Measured:
    """Sum every density over the outputs and the inputs of each layer, in double precision.

    `remembered` is the optimizer's memory by the names of tensors; weights without one have sums of weights alone.
    Means are corrected for their start at zero as Adam does it (Kingma and Ba 2015, section 3). Where the files do not
    tell how often or by which beta, the first mean is taken as stored, and what needs the second one is absent. The
    sums are the same to the last bit whatever the number of threads. `on_bytes` is told of the bytes of each layer once
    it is done. Memory: some ten mebibytes a thread, and the sums.

    Raises:
        CouldNotRead: when the system or the server reports an error.
    """
    tasks = (_Task(layer=layer, means=_means(remembered.get(layer.tensor.name)), sources=sources) for layer in layers)
    sums: dict[str, AxisSums] = {}
    left_out: dict[str, str] = {}
    forgotten: dict[str, str] = {}
    with ThreadPoolExecutor(threads) as executor:
        for layer, result in zip(layers, in_order(_measured, tasks, executor=executor, workers=threads), strict=True):
            found, reason = result
            if found is None:
                left_out[layer.name] = reason
            else:
                sums[layer.name] = found
                if reason:
                    forgotten[layer.name] = reason
            on_bytes(layer.extent.weights * BITS[layer.extent.dtype] // 8)
    return Measured(sums=sums, left_out=left_out, forgotten=forgotten)


def _means(remembered: Remembered | None) -> _Means:
    if remembered is None:
        return _Means()
    state, group = remembered.state, remembered.group
    return _Means(
        first=state.first,
        second=state.second,
        first_factor=_factor(group.beta1, state.steps),
        second_factor=_factor(group.beta2, state.steps),
        epsilon=group.epsilon,
    )


def _factor(beta: float | None, steps: int | None) -> float | None:
    if beta is None or steps is None or not (0 <= beta < 1 and 1 <= steps <= MOST_STEPS):
        return None
    return 1 / (1 - beta**steps)


def _measured(task: _Task) -> tuple[AxisSums | None, str]:
    """The sums of a layer, or none; and why there are none, or none of the optimizer's numbers."""
    found = _all_of(task)
    if not isinstance(found, str):
        return found, ""
    if task.means == NO_MEANS:
        return None, found
    alone = _all_of(replace(task, means=NO_MEANS))
    if isinstance(alone, str):
        return None, alone
    return alone, f"the optimizer's numbers for it are left out: {found}"


def _all_of(task: _Task) -> AxisSums | str:
    """The sums of a layer, or why there are none."""
    if obstacle := _obstacle(task):
        return obstacle
    try:
        sums = _summed(task)
    except RefusedFile as error:
        return str(error)
    if not all(np.isfinite(each).all() for along in (sums.outputs, sums.inputs) for each in along.values()):
        return "not all of its numbers are finite and sound"
    return sums


def _obstacle(task: _Task) -> str:
    """What keeps a layer from being summed, empty if nothing does."""
    layer = task.layer
    tensors = [tensor for tensor in (layer.tensor, task.means.first, task.means.second) if tensor is not None]
    longest = max(layer.part.rows.size, layer.part.columns.size)
    if any(tensor.shape != layer.tensor.shape for tensor in tensors):
        return f"what the optimizer remembers of {quoted(layer.tensor.name)} has another shape"
    if any(tensor.dtype not in FLOATS or tensor.dtype in COMPLEX for tensor in tensors):
        return "no real numbers"
    if layer.part.suffix and any(layer.layout.columns * BITS[tensor.dtype] % 8 for tensor in tensors):
        return "a part of a tensor whose rows share bytes"
    if 0 in layer.tensor.shape:
        return "empty"
    return f"{longest:,} weights along one axis, too many to be summed" if longest > LONGEST_AXIS else ""


def _summed(task: _Task) -> AxisSums:
    layer = task.layer
    rows, columns = len(layer.part.rows), len(layer.part.columns)
    is_vector = len(layer.tensor.shape) < 2  # noqa: PLR2004 - the axes of a matrix
    by_row: dict[Density, Floats] = {}
    by_column: dict[Density, Floats] = {}
    row = 0
    with np.errstate(all="ignore"):  # what comes of numbers that are not finite is seen at the end
        for weights, first, second in _windows(task, max(1, WINDOW_WEIGHTS // columns)):
            for density, factors in _densities(weights, first, second, task.means):
                if density in OF_VECTORS and not is_vector:
                    continue
                if density not in by_row:
                    by_row[density], by_column[density] = np.zeros(rows), np.zeros(columns)
                terms = ",".join("ij" for _ in factors)
                by_row[density][row : row + len(weights)] = np.einsum(f"{terms}->i", *factors)
                by_column[density] += np.einsum(f"{terms}->j", *factors)
            row += len(weights)
    outputs_lie_in_rows = layer.part.outputs_first and not is_vector
    return AxisSums(
        weights=rows * columns,
        outputs=by_row if outputs_lie_in_rows else by_column,
        inputs=by_column if outputs_lie_in_rows else by_row,
    )


def _densities(
    weights: Floats, first: Floats | None, second: Floats | None, means: _Means
) -> Iterator[tuple[Density, tuple[Floats, ...]]]:
    """Every density that can be told, as the factors whose products are summed."""
    yield Density.WEIGHT, (weights,)
    yield Density.SQUARE, (weights, weights)
    if first is not None:
        mean = first if means.first_factor is None else first * means.first_factor
        yield Density.FIRST, (mean,)
        yield Density.FIRST_TIMES_WEIGHT, (mean, weights)
        if second is None:  # of squared gradients, SGD's momentum is all that is left
            yield Density.FIRST_SQUARE, (mean, mean)
    if second is None or means.second_factor is None:
        return
    square = second * means.second_factor
    root = np.sqrt(square)
    yield Density.SECOND, (square,)
    yield Density.ROOT_SECOND, (root,)
    yield Density.ROOT_SECOND_TIMES_WEIGHT, (root, weights)
    yield Density.ROOT_SECOND_TIMES_SQUARE, (root, weights, weights)
    if first is None or means.first_factor is None or means.epsilon is None:
        return
    update = mean / (root + means.epsilon)
    yield Density.FIRST_TIMES_UPDATE, (mean, update)
    yield Density.UPDATE_TIMES_WEIGHT, (update, weights)
    yield Density.UPDATE_SQUARE, (update, update)


def _windows(task: _Task, rows: int) -> Iterator[tuple[Floats, Floats | None, Floats | None]]:
    """The same rows of the weights and of both means, at most so many at a time, in double precision."""
    first, second = (_rows(tensor, task, rows) for tensor in (task.means.first, task.means.second))
    for weights in _rows(task.layer.tensor, task, rows):
        yield weights, next(first, None), next(second, None)


def _rows(tensor: Tensor | None, task: _Task, rows: int) -> Iterator[Floats]:
    """So many rows at a time of a tensor cut as the layer is, fewer at the end; nothing where there is no tensor."""
    if tensor is None:
        return
    part = task.layer.part
    extent = Extent(rows=len(part.rows), columns=len(part.columns), dtype=tensor.dtype, scaled=False)
    layer = replace(task.layer, tensor=tensor, extent=extent)
    source = task.sources.of(tensor)
    rest = np.empty((0, extent.columns))
    for stored in chunks(source, layer, first_row=0, stop_row=extent.rows):
        rest = np.concatenate([rest, values(stored, tensor.dtype)], dtype=np.float64)  # copied: see `chunks`
        while len(rest) >= rows:
            yield rest[:rows]
            rest = rest[rows:]
    if len(rest):
        yield rest
