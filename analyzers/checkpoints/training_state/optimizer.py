"""From what an optimizer's file holds to which optimizer it was, and what it remembers of each parameter."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jaynes_audit.analyzers.checkpoints.quoted import listed, quoted
from jaynes_audit.analyzers.checkpoints.tensor import Tensor
from jaynes_audit.analyzers.checkpoints.training_state.arguments import method_named
from jaynes_audit.analyzers.checkpoints.training_state.eight_bits import widened
from jaynes_audit.analyzers.checkpoints.training_state.memory import STEP, Group, Memory
from jaynes_audit.analyzers.checkpoints.training_state.state import (
    Method,
    OptimizerState,
    ParameterGroup,
    ParameterState,
)
from jaynes_audit.analyzers.checkpoints.training_state.told import bad, count, not_negative, number
from jaynes_audit.analyzers.dtypes import COMPLEX, FLOATS

FIRST = ("exp_avg", "momentum_buffer", "state1")
SECOND = ("exp_avg_sq", "state2")
"""What the means of gradients and of their squares are called; `state1` and `state2` are bitsandbytes' names."""

FACTORED = frozenset({"exp_avg_sq_row", "exp_avg_sq_col", "row_var", "col_var"})
ADAM = frozenset({"exp_avg", "exp_avg_sq"})
ADAM_AND_MORE = ADAM | {"max_exp_avg_sq"}  # of AMSGrad
OF_ADAM = "amsgrad"  # a setting that of torch's optimizers only Adam and AdamW have
DECOUPLED = "decoupled_weight_decay"
OF_SGD = "dampening"
OF_MUON = frozenset({"ns_steps", "use_muon"})
OF_ADAFACTOR = frozenset({"relative_step", "beta2_decay"})
OF_TRANSFORMERS_ADAMW = "correct_bias"
OF_FUSED_ADAM = "bias_correction"
OF_FUSED_OTHERS = frozenset({"max_grad_norm", "max_coeff", "grad_averaging"})  # of LAMB and of NovoGrad
OF_EIGHT_BITS = "state1"


def optimizer_state(memory: Memory, *, file: str, declared: str) -> OptimizerState:
    """The optimizer's state, which was read from `file`.

    `declared` is transformers' name of the optimizer, "" where no file gives one.

    Raises:
        RefusedFile: JN003 when the two means of a parameter's gradients differ in shape.
    """
    method, evidence = method_of(memory, declared)
    keys = [key for group in memory.groups for key in group.keys]
    is_listed = bool(keys) and all(group.names or not group.keys for group in memory.groups)
    names = [name for group in memory.groups for name in group.names]
    has_names = is_listed and len(set(names)) == len(names)
    return OptimizerState(
        files=(file,),
        method=method,
        evidence=evidence,
        groups=tuple(map(_parameter_group, memory.groups)),
        parameters=tuple(
            _parameter(name if has_names else key, key, place, memory)
            for place, group in enumerate(memory.groups)
            for key, name in zip(group.keys, group.names if has_names else group.keys, strict=True)
        ),
        is_named=has_names or (bool(keys) and not any(key.isdecimal() for key in keys)),
    )


def _parameter_group(group: Group) -> ParameterGroup:
    settings = group.settings
    betas = settings.get("betas")
    beta1, beta2 = betas if isinstance(betas, list | tuple) and len(betas) == 2 else (None, None)  # noqa: PLR2004
    return ParameterGroup(
        learning_rate=not_negative(settings.get("lr")),
        initial_learning_rate=not_negative(settings.get("initial_lr")),
        weight_decay=not_negative(settings.get("weight_decay")),
        beta1=number(beta1),
        beta2=number(beta2),
        epsilon=not_negative(settings.get("eps")),
        momentum=not_negative(settings.get("momentum")),
    )


def _parameter(name: str, key: str, place: int, memory: Memory) -> ParameterState:
    tensors = memory.tensors.get(key, {})
    first, second = _mean(tensors, FIRST), _mean(tensors, SECOND)
    if first and second and first.shape != second.shape:
        raise bad(
            f"its two means of parameter {quoted(name)} have the shapes {list(first.shape)} and {list(second.shape)}",
            "optimizer-shapes",
        )
    either = first or second
    return ParameterState(
        key=name,
        group=place,
        shape=either.shape if either else (),
        steps=memory.steps.get(key, count(memory.groups[place].settings.get(STEP))),
        first=first,
        second=second,
    )


def _mean(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensor | None:
    """The tensor of the first of these names, as numbers."""
    name = next((name for name in names if name in tensors), None)
    if name is None:
        return None
    tensor = widened(tensors, name)
    return tensor if tensor is not None and tensor.dtype in FLOATS and tensor.dtype not in COMPLEX else None


# ---- which optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signs:
    """What tells optimizers apart: what it calls the tensors that it remembers, and its settings, group by group."""

    held: frozenset[str]
    settings: frozenset[str]
    groups: Sequence[Mapping[str, object]]
    declared: str


Told = tuple[Method, str]


def method_of(memory: Memory, declared: str) -> Told:
    """How the optimizer steps, and how that was told in words. `declared` is as for `optimizer_state`."""
    groups = [group.settings for group in memory.groups]
    held = frozenset(name for tensors in memory.tensors.values() for name in tensors)
    settings = frozenset(name for group in groups for name in group)
    signs = _Signs(held=held, settings=settings, groups=groups, declared=declared)
    looks = (_by_settings, _adam, _by_memory, _by_arguments)
    unknown = Method.UNKNOWN, f"no optimizer that is known remembers {listed(sorted(held))}" if held else "no state"
    return next((found for found in (look(signs) for look in looks) if found), unknown)


def _by_settings(signs: _Signs) -> Told | None:
    """Optimizers whose names for things no other has."""
    own = sorted(signs.held & FACTORED or signs.settings & OF_ADAFACTOR)
    if own:
        return Method.ADAFACTOR, f"told by what only Adafactor has: {listed(own)}"
    own = sorted(signs.settings & OF_MUON)
    return (Method.MUON, f"told by what only Muon has: {listed(own)}") if own else None


def _adam(signs: _Signs) -> Told | None:
    """Adam or AdamW, which remember the same: only settings tell them apart."""
    if not signs.held >= ADAM and (signs.held or OF_ADAM not in signs.settings):
        return None
    others = sorted(signs.held - ADAM_AND_MORE)
    if others:
        return Method.UNKNOWN, f"it remembers what Adam does not: {listed(others)}"
    method, evidence = _adam_or_adamw(signs)
    if signs.held > ADAM or any(group.get(OF_ADAM) is True for group in signs.groups):
        return Method.UNKNOWN, f"{method} with AMSGrad, whose steps are others ({evidence})"
    return method, evidence


def _adam_or_adamw(signs: _Signs) -> Told:
    if DECOUPLED in signs.settings:
        return _by_decoupling(signs)
    if OF_TRANSFORMERS_ADAMW in signs.settings:
        return Method.ADAMW, f"told by its setting {OF_TRANSFORMERS_ADAMW}, which only transformers' AdamW has"
    if OF_FUSED_ADAM in signs.settings and not signs.settings & OF_FUSED_OTHERS:
        return Method.ADAMW, (
            f"told by its setting {OF_FUSED_ADAM}: the Adam of DeepSpeed and apex, whose decay is AdamW's unless it "
            "was set otherwise, which no file tells"
        )
    return _adam_by_arguments(signs)


def _by_decoupling(signs: _Signs) -> Told:
    """By the setting with which torch, since 2.7, tells AdamW from Adam."""
    decoupled = {group.get(DECOUPLED) is True for group in signs.groups}
    if OF_ADAM not in signs.settings:
        return Method.UNKNOWN, f"it has Adam's memory, and {DECOUPLED} without Adam's other settings"
    if len(decoupled) > 1:
        return Method.UNKNOWN, "some of its groups are AdamW's and some Adam's"
    is_decoupled = True in decoupled
    return Method.ADAMW if is_decoupled else Method.ADAM_L2, f"told by its setting {DECOUPLED}, which is {is_decoupled}"


def _adam_by_arguments(signs: _Signs) -> Told:
    if method_named(signs.declared) is Method.ADAMW:
        return Method.ADAMW, _declared(signs)
    if all(group.get("weight_decay") == 0 for group in signs.groups):
        return Method.ADAMW, "Adam and AdamW are the same without weight decay"
    return Method.UNKNOWN, "Adam or AdamW: torch before 2.7 wrote nothing that tells them apart"


def _by_memory(signs: _Signs) -> Told | None:
    if signs.held == {"exp_avg"} and "betas" in signs.settings:
        return Method.LION, "told by its only memory, one running mean of gradients"
    if signs.held <= {"momentum_buffer"} and OF_SGD in signs.settings:
        return Method.SGD, f"told by its setting {OF_SGD}"
    return None


def _by_arguments(signs: _Signs) -> Told | None:
    """Optimizers of bitsandbytes, which all have the same names for what they remember."""
    method = method_named(signs.declared)
    return (method, _declared(signs)) if method and (OF_EIGHT_BITS in signs.held or not signs.held) else None


def _declared(signs: _Signs) -> str:
    return f"told by the trainer's arguments, which say {quoted(signs.declared)}"
