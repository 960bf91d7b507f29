"""The fits of a layer in two models, side by side."""

import math
from dataclasses import replace

import msgspec
import pytest

from jaynes_audit.analyzers.comparison.parameters import Parameters, Shift, parameters
from jaynes_audit.analyzers.distributions.moments import LogMomentErrors, NotFitted
from jaynes_audit.analyzers.record import LayerRecord
from jaynes_audit.analyzers.record.layers import layer_record
from tests.support import audits

ERRORS = LogMomentErrors(blocks=16, log_mean=0.03, log_sigma=0.04, skewness=0.05, excess_kurtosis=0.2)
MORE_ERRORS = LogMomentErrors(blocks=16, log_mean=0.04, log_sigma=0.03, skewness=0.12, excess_kurtosis=0.2)


def layer(mu: float, sigma: float, skewness: float, *, errors: LogMomentErrors | NotFitted = ERRORS) -> LayerRecord:
    fitted = audits.fit(mu, sigma, skewness=skewness)
    return layer_record(replace(audits.layer("layers.0.mlp.up.weight", fitted=fitted), errors=errors))


def unfitted(reason: str) -> LayerRecord:
    return layer_record(audits.layer("layers.0.mlp.up.weight", fitted=NotFitted(reason)))


def test_a_change_is_from_the_first_model_to_the_second() -> None:
    found = parameters(layer(-4, 1.25, -0.5), layer(-3.5, 1, 0.25, errors=MORE_ERRORS))
    assert found == Parameters(
        log_mean=Shift(a=-4, b=-3.5, change=0.5, error=pytest.approx(0.05)),
        log_sigma=Shift(a=1.25, b=1, change=-0.25, error=pytest.approx(0.05)),
        skewness=Shift(a=-0.5, b=0.25, change=0.75, error=pytest.approx(0.13)),
    )


def test_the_other_way_round_it_has_the_other_sign_and_the_same_error() -> None:
    one, other = layer(-4, 1.25, -0.5), layer(-3.5, 1, 0.25, errors=MORE_ERRORS)
    there, back = parameters(one, other), parameters(other, one)
    assert isinstance(there, Parameters)
    assert isinstance(back, Parameters)
    assert back.log_mean == Shift(a=-3.5, b=-4, change=-there.log_mean.change, error=there.log_mean.error)


@pytest.mark.parametrize("no_errors", [NotFitted("why"), replace(ERRORS, skewness=math.inf)])
def test_a_change_without_an_error_on_either_side_has_none(no_errors: LogMomentErrors | NotFitted) -> None:
    without, other = layer(-4, 1.25, -0.5, errors=no_errors), layer(-3.5, 1, 0.25)
    for found in (parameters(without, other), parameters(other, without)):
        assert isinstance(found, Parameters)
        assert isinstance(found.log_mean.error, NotFitted)
        assert abs(found.log_mean.change) == 0.5


def test_a_layer_that_is_not_fitted_says_on_which_side_and_why() -> None:
    fitted, unlike = layer(-4, 1.25, -0.5), unfitted("every weight is zero or not finite")
    assert parameters(unlike, fitted) == NotFitted("not fitted in A: 'every weight is zero or not finite'")
    assert parameters(fitted, unlike) == NotFitted("not fitted in B: 'every weight is zero or not finite'")
    assert parameters(unlike, unlike) == NotFitted("not fitted in A: 'every weight is zero or not finite'")


def test_a_fit_that_no_weights_can_have_is_not_compared() -> None:
    usual = layer(-4, 1.25, -0.5)
    made_up = msgspec.structs.replace(usual, fit=msgspec.structs.replace(usual.fit, mu=-1e308))
    assert parameters(usual, made_up) == NotFitted("the fit in B has numbers that no weights can have")
    assert parameters(made_up, usual) == NotFitted("the fit in A has numbers that no weights can have")


def test_a_reason_out_of_a_strangers_report_stays_on_one_line() -> None:
    found = parameters(layer(-4, 1.25, -0.5), unfitted("\x1b[31m\n" * 1000))
    assert isinstance(found, NotFitted)
    assert found.reason.isprintable()
    assert len(found.reason) < 120
