"""How much of a run's start is left in its weights, and how long they remember."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence

from jaynes_audit.analyzers.checkpoints.training_state.state import Method, Rates
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement, cannot_be_said

OLD, YOUNG = 1.5, 0.5  # ages beyond which 5 %, and below which 37 %, of the squared initial norm are left

CLAIM = "learning rate and weight decay set the scale of the weights, and their start no longer does"
HORIZON_CLAIM = "weights remember between one epoch and the whole run"

ALWAYS = 0.99  # of the updates of the others; mixed precision skips a few
LEAST_RATE = 1e-50  # anything less is as good as none
LARGEST_RATE = 1e50  # of a rate, and of the ratio of two: squares of their product can be added up over any history

RATES = "the learning rate of every step (trainer_state.json, or --lr, --schedule and --steps)"
WITHIN_A_WEIGHT = "a learning rate and a weight decay whose product, all that a step may take of a weight, is up to 1"
DECAY = "the weight decay (the optimizer's groups, or --weight-decay)"
METHOD = "which optimizer it was (its state, training_args.bin, or --optimizer)"
EPOCHS = "how many steps make an epoch (trainer_state.json)"

DECOUPLED = frozenset({Method.ADAMW})
SHRINKING = DECOUPLED | {Method.SGD}
"""Methods under which weight decay takes the same part of every weight at a step, on top of the gradient's work."""


def run_age(rates: Rates, weight_decay: float) -> float:
    """Sum learning rate times weight decay over all steps: the squared initial norm is left with exp(-2 age) of it."""
    return float(rates.sum()) * weight_decay


def missing_for_decay(evidence: Evidence) -> tuple[str, ...]:
    """Name what is not known of that which every law of weight decay needs."""
    known = has_rates(evidence)
    decay = any(each.weight_decay is not None for each in evidence.parameters.values())
    method = evidence.method is not Method.UNKNOWN
    within = not known or _decays_within_a_weight(evidence)
    looks = ((RATES, known), (DECAY, decay), (METHOD, method), (WITHIN_A_WEIGHT, within))
    return tuple(each for each, there in looks if not there)


def has_rates(evidence: Evidence) -> bool:
    """Whether there is a learning rate to reckon with: of one step at least, and none that no run could have."""
    history = evidence.training.history
    return history is not None and history.learning_rates.size > 0 and history.learning_rates.max() <= LARGEST_RATE


def _decays_within_a_weight(evidence: Evidence) -> bool:
    history = evidence.training.history
    highest = float(history.learning_rates.max()) if history is not None else 0.0
    return all(
        highest * _effective_share(evidence, each) * each.weight_decay <= 1
        for each in evidence.parameters.values()
        if each.weight_decay
    )


def unknown(missing: Sequence[str]) -> str:
    """Say that something is not known, in the words of an answer."""
    return f"not known: {'; '.join(missing)}"


def rates_of(evidence: Evidence, parameter: Parameter) -> Rates:
    """The learning rate of each step for one parameter: that of the first group, in proportion to its own group's.

    Raises:
        ValueError: where no history is known.
    """
    history = evidence.training.history
    if history is None:
        raise ValueError("no learning rates are known")
    return history.learning_rates * _share(evidence, parameter)


def effective_rates(evidence: Evidence, parameter: Parameter) -> Rates:
    """The rates that decay acts with: momentum sums a step of SGD up to 1/(1 - momentum) of them."""
    history = evidence.training.history
    if history is None:
        raise ValueError("no learning rates are known")
    return history.learning_rates * _effective_share(evidence, parameter)


def _share(evidence: Evidence, parameter: Parameter) -> float:
    """The learning rate of a parameter over that of the first group."""
    optimizer, group = evidence.optimizer, parameter.group
    first = optimizer.groups[0] if optimizer is not None and optimizer.groups else None
    if first is None or group is None:
        return 1.0
    mine, base = group.initial_learning_rate, first.initial_learning_rate
    if mine is None or not base:
        mine, base = group.learning_rate, first.learning_rate
    share = mine / base if mine is not None and base else 1.0
    return share if share <= LARGEST_RATE else 1.0


def _effective_share(evidence: Evidence, parameter: Parameter) -> float:
    share = _share(evidence, parameter)
    momentum = parameter.group.momentum if parameter.group is not None else None
    return share / (1 - momentum) if evidence.method is Method.SGD and momentum and momentum < 1 else share


def age_of(evidence: Evidence, parameter: Parameter) -> float:
    """The age of one parameter; 0 where no decay acts on it. Raises as `rates_of` does."""
    return run_age(effective_rates(evidence, parameter), parameter.weight_decay or 0.0)


def rarely_updated(evidence: Evidence) -> frozenset[str]:
    """The layers that were updated less often than others, as what was frozen for a while: nobody knows when."""
    steps = {name: each.steps for name, each in evidence.parameters.items() if each.group and each.steps is not None}
    most = max(steps.values(), default=0)
    return frozenset(name for name, each in steps.items() if each < ALWAYS * most)


def age_statements(evidence: Evidence) -> Iterator[Statement]:
    """Say for each setting of the optimizer how much its weights remember of their start."""
    if missing := missing_for_decay(evidence):
        yield cannot_be_said(Quantity.RUN_AGE, "the run", CLAIM, because=unknown(missing), missing=missing)
        return
    if evidence.method not in SHRINKING:
        because = f"under {evidence.method} weight decay does not shrink weights by a known part of them"
        yield cannot_be_said(Quantity.RUN_AGE, "the run", CLAIM, because=because)
        return
    for members in _alike(evidence):
        yield _age_statement(evidence, members)
    rare = [evidence.parameters[name] for name in rarely_updated(evidence) if evidence.parameters[name].weight_decay]
    if rare:
        because = "they were updated less often than the others, and when is not known"
        yield cannot_be_said(
            Quantity.RUN_AGE, f"{len(rare):,} layer{'s' if len(rare) > 1 else ''}", CLAIM, because=because
        )


def horizon_statements(evidence: Evidence) -> Iterator[Statement]:
    """Say how many epochs AdamW's weights remember, beside what runs were found to do best with.

    Source: Wang and Aitchison 2024, "How to set AdamW's weight decay as you scale model and dataset size",
    arXiv 2405.13698: the best horizon stays the same from one size to the next, between one epoch and the whole run.
    """
    training = evidence.training
    missing = missing_for_decay(evidence)
    if training.steps_per_epoch is None:
        missing = (*missing, EPOCHS)
    if missing:
        because = unknown(missing)
        yield cannot_be_said(Quantity.DECAY_HORIZON, "the run", HORIZON_CLAIM, because=because, missing=missing)
        return
    if evidence.method not in DECOUPLED or not evidence.decayed:
        why = f"it was found for AdamW with weight decay, and this is {evidence.method}"
        because = why if evidence.decayed else "weight decay is zero, so nothing makes weights forget"
        yield cannot_be_said(Quantity.DECAY_HORIZON, "the run", HORIZON_CLAIM, because=because)
        return
    steps = training.planned_steps or training.steps or 0
    for members in _alike(evidence):
        strength = float(rates_of(evidence, members[0]).max()) * (members[0].weight_decay or 0.0)
        if strength >= LEAST_RATE:
            yield _horizon_statement(strength, training.steps_per_epoch or math.inf, steps, _subject(evidence, members))


def _alike(evidence: Evidence) -> Sequence[Sequence[Parameter]]:
    """The layers by their weight decay and their learning rate, the strongest decay first."""
    groups: defaultdict[tuple[float, float], list[Parameter]] = defaultdict(list)
    rare = rarely_updated(evidence)
    for name, each in evidence.parameters.items():
        if each.weight_decay is not None and name not in rare:
            share = _share(evidence, each) if each.weight_decay else 1.0
            groups[each.weight_decay, share].append(each)
    return [groups[setting] for setting in sorted(groups, reverse=True)]


def _subject(evidence: Evidence, members: Sequence[Parameter]) -> str:
    decay, share = members[0].weight_decay, _share(evidence, members[0])
    layers = f"{len(members):,} layer{'s' if len(members) > 1 else ''} with weight decay {decay:g}"
    return f"{layers}, {share:.3g} times the learning rate" if decay and share != 1 else layers


def _age_statement(evidence: Evidence, members: Sequence[Parameter]) -> Statement:
    subject = _subject(evidence, members)
    if not members[0].weight_decay:
        because = "no weight decay acts on them, so nothing makes them forget their start"
        return cannot_be_said(Quantity.RUN_AGE, subject, CLAIM, because=because)
    age = age_of(evidence, members[0])
    left = math.exp(-2 * age)
    answer = Answer.HOLDS if age > OLD else Answer.DOES_NOT_HOLD if age < YOUNG else Answer.CANNOT_BE_SAID
    told = {
        Answer.HOLDS: "the weights have forgotten their start",
        Answer.DOES_NOT_HOLD: "the weights remember their start",
        Answer.CANNOT_BE_SAID: "the weights have forgotten a part of their start, and no more",
    }
    return Statement(
        quantity=Quantity.RUN_AGE,
        subject=subject,
        claim=CLAIM,
        figures=(Figure(name="age", value=age), Figure(name="start left", value=100 * left, unit="%")),
        answer=answer,
        because=(
            f"{told[answer]}: decay left {100 * left:.3g} % of their squared initial norm "
            f"(above an age of {OLD} it holds, below {YOUNG} it does not)"
        ),
    )


def _horizon_statement(rate_times_decay: float, steps_per_epoch: float, steps: int, subject: str) -> Statement:
    horizon, run = 1 / rate_times_decay / steps_per_epoch, steps / steps_per_epoch
    figures = (
        Figure(name="horizon", value=horizon, unit="epochs"),
        Figure(name="run", value=run, unit="epochs"),
    )
    if run <= 1:
        answer, because = (
            Answer.CANNOT_BE_SAID,
            "the run sees its data once at most, and the rule is about several epochs",
        )
    elif 1 <= horizon <= run:
        answer, because = Answer.HOLDS, f"at the highest learning rate weights remember {horizon:.3g} epochs"
    else:
        side = "less than one epoch" if horizon < 1 else "longer than the run"
        answer, because = Answer.DOES_NOT_HOLD, f"at the highest learning rate weights remember {side}"
    return Statement(
        quantity=Quantity.DECAY_HORIZON,
        subject=subject,
        claim=HORIZON_CLAIM,
        figures=figures,
        answer=answer,
        because=because,
    )
