"""The public shape of a comparison: described, versioned, and without a number that is none."""

import json
import math
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

import jaynes_audit
from jaynes_audit.analyzers.comparison.exact.outcome import RankProfile
from jaynes_audit.analyzers.comparison.findings import findings_of
from jaynes_audit.analyzers.comparison.lineage.score import Null
from jaynes_audit.analyzers.comparison.record import (
    FORMAT,
    ComparisonRecord,
    ComparisonReportRecord,
    comparison_record,
    comparison_schema,
)
from jaynes_audit.analyzers.distributions.moments import NotFitted
from tests.support.comparisons import (
    UP,
    comparison,
    different,
    distances,
    layer,
    odd_comparison,
    parameters,
    report,
    score,
    three_models,
)

BABBLE = Path(__file__).parents[3] / "fixtures" / "babble"


def test_the_schema_is_one_and_describes_every_field() -> None:
    schema = comparison_schema()
    Draft202012Validator.check_schema(schema)
    assert schema["title"] == FORMAT
    definitions = schema["$defs"]
    assert set(definitions["ComparisonReportRecord"]["properties"]) == set(ComparisonReportRecord.__struct_fields__)
    for name, definition in definitions.items():
        assert definition["description"], name
        assert all("description" in each for each in definition["properties"].values()), name


@pytest.mark.parametrize("made", [report(odd_comparison()), three_models(), report()], ids=["odd", "three", "none"])
def test_json_keeps_to_the_schema_and_comes_back_as_it_was(made: ComparisonReportRecord) -> None:
    written = msgspec.json.encode(made)
    Draft202012Validator(comparison_schema()).validate(json.loads(written, parse_constant=pytest.fail))
    assert msgspec.json.decode(written, type=ComparisonReportRecord) == made


def test_a_number_that_is_none_becomes_null_with_a_reason() -> None:
    profile = RankProfile(ranks=(1, 2), energy=(math.nan, 0.5), rank=2, rank_is_bound=True)
    odd = layer(
        UP.format(0),
        different(math.inf, profile, cosine=NotFitted("all of A is zero"), largest=math.nan),
        parameters=parameters(math.nan, error=math.inf),
        distances=replace(distances(0.1), wasserstein=math.inf),
    )
    none = Null(what="unrelated", middle=math.nan, high=math.inf, draws=0)
    record = comparison_record(comparison(odd, lineage=(replace(score(), value=math.nan, twins=none),)), ())
    found = json.loads(msgspec.json.encode(record), parse_constant=pytest.fail)
    (told,) = found["layers"]
    difference = told["exact"]["difference"]
    assert (difference["relative_error"], difference["cosine"], difference["largest"]) == (None, None, None)
    assert difference["unknown"] == {
        "relative_error": "it is not a finite number",
        "cosine": "all of A is zero",
        "largest": "it is not a finite number",
    }
    assert told["exact"]["rank"] == {"ranks": [2], "energy": [0.5], "rank": 2, "rank_is_bound": True}
    mu = told["parameters"]["mu"]
    assert (mu["change"], mu["error"], mu["no_error"]) == (None, None, "it is not a finite number")
    assert told["distances"]["wasserstein"] is None
    assert found["lineage"][0]["value"] is found["lineage"][0]["twins"]["high"] is None


def test_every_null_of_a_layer_has_its_reason_beside_it() -> None:
    found = comparison_record(odd_comparison(), ())
    for each in found.layers:
        assert (each.exact is None) is (each.not_exact is not None)
        assert (each.parameters is None) is (each.no_parameters is not None)
        assert (each.distances is None) is (each.no_distances is not None)


def test_lone_surrogates_become_unicode() -> None:
    record = comparison_record(comparison(layer("lone\udc80surrogate")), ())
    assert record.layers[0].a.name == r"lone\udc80surrogate"


def test_a_real_comparison_is_a_plain_dict_that_a_record_can_be_made_of_again() -> None:
    found = jaynes_audit.compare(BABBLE / "step0", BABBLE / "fp32")
    plain = found.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert msgspec.convert(plain, ComparisonRecord) == comparison_record(found, findings_of(found))
    assert len(plain["layers"]) == 39
    zeros = {layer.a.name: layer.zeros for layer in comparison_record(found, ()).layers}
    assert all(zeros.values())
