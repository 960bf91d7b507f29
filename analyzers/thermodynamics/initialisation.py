"""Initial weights of plain perceptrons against the scale at which signals neither die nor blow up with depth."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.roles import Role
from jaynes_audit.analyzers.roles.settings import word
from jaynes_audit.analyzers.thermodynamics.chains import ACTIVATIONS, NUMBERS, natural
from jaynes_audit.analyzers.thermodynamics.evidence import Evidence, Parameter
from jaynes_audit.analyzers.thermodynamics.statement import Answer, Figure, Quantity, Statement, cannot_be_said
from jaynes_audit.analyzers.thermodynamics.sums import Density

CLAIM = "the initial weights are critical: signals neither die nor blow up with depth"
ASPECT_CLAIM = "the network is no deeper for its width than the effective theory finds best"
STEP_0 = "the checkpoint of step 0 (--steps 0 where no file tells)"
ACTIVATION = "the activation (in config.json)"

AGREES, DIFFERS = 0.10, 0.25
LEAST_WEIGHTS = 800  # the variance of as many Gaussian weights is known to 5 %
PYTORCH = 1 / 3  # of nn.Linear: uniform between both signs of 1 / sqrt(inputs)
VARIANCE_OF_UNIFORM = 0.8  # relative, of the variance of so many uniform numbers, times their count
STANDARD_ERRORS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Criticality:
    """At which inputs * Var(weight) and Var(bias) the variance of a signal, and a small change of it, stay as they are.

    `shape` is the number of the activation that the best ratio of depth to width depends on: 3 A4 / A2^2 - 1 for one of
    two slopes, of which A2 and A4 are the mean second and fourth power. None where it is not known.
    """

    weights: float
    biases: float
    shape: float | None = None


CRITICAL: Mapping[str, Criticality] = MappingProxyType(
    {
        **dict.fromkeys(("linear", "identity"), Criticality(weights=1.0, biases=0.0, shape=2.0)),
        "relu": Criticality(weights=2.0, biases=0.0, shape=5.0),
        "tanh": Criticality(weights=1.0, biases=0.0, shape=2 / 3),
        "sin": Criticality(weights=1.0, biases=0.0),
        "gelu": Criticality(weights=1.983058, biases=0.172922),
        **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), Criticality(weights=1.982888, biases=0.172895)),
        **dict.fromkeys(("silu", "swish"), Criticality(weights=1.988005, biases=0.555143)),
    }
)
"""Activation as config.json calls it -> its critical point.

The criterion: Roberts, Yaida and Hanin, "The Principles of Deep Learning Theory" (arXiv 2106.10165), chapter 5. The
values of GELU and SiLU were solved for here, by quadrature over a Gaussian.
"""

Layers = Sequence[tuple[Parameter, Parameter | None]]


def initialisation_statements(evidence: Evidence) -> Iterator[Statement]:
    """Hold the variances of the initial weights of a plain perceptron against the critical ones.

    Trained weights, and networks with norms or shortcuts, are outside of the theory.
    """
    layers, obstacle, missing = _perceptron(evidence)
    if not obstacle and evidence.training.steps != 0:
        obstacle, missing = f"it is about weights before training: it takes {STEP_0}", (STEP_0,)
    if obstacle:
        yield cannot_be_said(Quantity.INITIALISATION, "the run", CLAIM, because=obstacle, missing=missing)
        return
    critical = CRITICAL[_activation(evidence)]
    # The first layer reads data, of which nothing is known.
    for weights, biases in layers[1:]:
        yield _of_layer(weights, biases, critical)


def aspect_statements(evidence: Evidence) -> Iterator[Statement]:
    """Hold depth over width of a plain perceptron against the ratio 4 / ((20 + 3 outputs) shape) of the theory.

    Source: Roberts, Yaida and Hanin, "The Principles of Deep Learning Theory" (arXiv 2106.10165), appendix A.
    """
    layers, obstacle, missing = _perceptron(evidence)
    if obstacle:
        yield cannot_be_said(Quantity.ASPECT_RATIO, "the run", ASPECT_CLAIM, because=obstacle, missing=missing)
        return
    shape = CRITICAL[_activation(evidence)].shape
    *hidden, outputs = [weights.layer.part.fan_out for weights, _ in layers]
    if shape is None or outputs > min(hidden):
        because = (
            f"no best ratio is known for {_activation(evidence)}"
            if shape is None
            else "the theory is about networks with fewer outputs than hidden neurons"
        )
        yield cannot_be_said(Quantity.ASPECT_RATIO, "the run", ASPECT_CLAIM, because=because)
        return
    best = 4 / ((20 + 3 * outputs) * shape)
    ratio = len(layers) * sum(1 / width for width in hidden) / len(hidden)
    yield Statement(
        quantity=Quantity.ASPECT_RATIO,
        subject="the run",
        claim=ASPECT_CLAIM,
        figures=(Figure(name="depth / width", value=ratio), Figure(name="best", value=best)),
        answer=Answer.CANNOT_BE_SAID,
        because=f"for {outputs:,} outputs {best:.2g} is best; how far from it would be too far was never validated",
    )


def _activation(evidence: Evidence) -> str:
    return next(filter(None, (word(evidence.config, key).lower() for key in ACTIVATIONS)), "")


def _perceptron(evidence: Evidence) -> tuple[Layers, str, tuple[str, ...]]:
    """The layers of a plain perceptron, from first to last; or why it is none that the theory knows."""
    biases = {name: each for name, each in evidence.parameters.items() if each.layer.part.role is Role.BIAS}
    matrices = [each for name, each in evidence.parameters.items() if name not in biases]
    matrices.sort(key=lambda each: natural(each.layer.name))
    parts = [each.layer.part for each in matrices]
    own = [f"{each.layer.name.removesuffix('.weight')}.bias" for each in matrices]
    if (
        len(matrices) < 2  # noqa: PLR2004 - one matrix has no depth
        or word(evidence.config, "model_type")
        or any(len(each.layer.tensor.shape) != 2 or each.layer.part.suffix for each in matrices)  # noqa: PLR2004 - axes
        or any(first.fan_out != second.fan_in for first, second in pairwise(parts))
        or len({NUMBERS.sub("#", each.layer.name) for each in matrices}) != 1
        or not biases.keys() <= set(own)
    ):
        return (), "not applicable: it is about plain perceptrons, without norms, attention or shortcuts", ()
    activation = _activation(evidence)
    if not activation:
        return (), f"it takes {ACTIVATION}", (ACTIVATION,)
    if activation not in CRITICAL:
        return (), f"not applicable: no critical point is known for the activation {quoted(activation)}", ()
    return list(zip(matrices, map(biases.get, own), strict=True)), "", ()


def _of_layer(weights: Parameter, biases: Parameter | None, critical: Criticality) -> Statement:
    of_weights = weights.layer.part.fan_in * _variance(weights)
    of_biases = _variance(biases) if biases is not None else 0.0
    answer, because = _judged(of_weights, of_biases, critical, weights.sums.weights)
    return Statement(
        quantity=Quantity.INITIALISATION,
        subject=weights.layer.name,
        claim=CLAIM,
        figures=(
            Figure(name="inputs * Var(weight)", value=of_weights),
            Figure(name="critical", value=critical.weights),
            Figure(name="Var(bias)", value=of_biases),
            Figure(name="critical of biases", value=critical.biases),
        ),
        answer=answer,
        because=because,
    )


def _judged(of_weights: float, of_biases: float, critical: Criticality, weights: int) -> tuple[Answer, str]:
    if weights < LEAST_WEIGHTS:
        return Answer.CANNOT_BE_SAID, f"{weights:,} weights are too few to tell their variance"
    ratio = of_weights / critical.weights
    told = f"inputs times the variance of weights is {ratio:.3g} times the critical one"
    if abs(of_weights - PYTORCH) < STANDARD_ERRORS * PYTORCH * math.sqrt(VARIANCE_OF_UNIFORM / weights):
        told += ", as PyTorch's default for nn.Linear makes it whatever the activation"
    told += f" (within {AGREES:.0%} it holds, beyond {DIFFERS:.0%} it does not)"
    if abs(ratio - 1) > DIFFERS:
        return Answer.DOES_NOT_HOLD, told
    if abs(of_biases - critical.biases) > AGREES * (critical.biases or 1):
        told += f"; the variance of biases is {of_biases:.3g}, where {critical.biases:.3g} is critical"
        return Answer.DOES_NOT_HOLD, told
    return (Answer.HOLDS if abs(ratio - 1) <= AGREES else Answer.CANNOT_BE_SAID), told


def _variance(parameter: Parameter) -> float:
    mean = parameter.sums.total(Density.WEIGHT) / parameter.sums.weights
    return parameter.mean_square - mean**2
