"""The record is tested where its shape is public: here, and in tests/cli/reports."""

import json
from pathlib import Path

import msgspec
import pytest
from jsonschema import Draft202012Validator

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.record import ModelRecord, ReportRecord, report_schema
from tests.support.audits import odd_audit
from tests.support.checkpoint_files import checkpoint


def test_an_audit_is_a_plain_dict_that_a_model_can_be_made_of_again(tmp_path: Path) -> None:
    audit = audit_checkpoint(open_checkpoint(str(checkpoint(tmp_path / "a.safetensors"))))
    plain = audit.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    model = msgspec.convert(plain, ModelRecord)
    assert [layer.name for layer in model.layers] == ["model.layers.0.mlp.up_proj.weight"]
    assert model.left_out[0].reason == "not-weights"


def test_medians_are_over_the_fitted_highly_connected_matrices_alone() -> None:
    connected = msgspec.convert(odd_audit().to_dict(), ModelRecord).connected
    assert (connected.layers, connected.fitted) == (8, 6)
    assert connected.mu is not None
    middle = pytest.approx((-3.61 - 3.5) / 2)
    assert (connected.mu.least, connected.mu.median, connected.mu.greatest) == (-4.2, middle, -3.4)


def test_verdicts_are_counted_over_the_highly_connected_matrices_the_most_common_first() -> None:
    connected = msgspec.convert(odd_audit().to_dict(), ModelRecord).connected
    assert [(each.name, each.layers) for each in connected.verdicts] == [
        ("degenerate", 3),
        ("Gaussian", 2),
        ("lognormal", 1),
        ("lognormal by mixing", 1),
        ("undecided", 1),
    ]


def test_the_schema_is_one_and_describes_every_field() -> None:
    schema = report_schema()
    Draft202012Validator.check_schema(schema)
    assert "$id" not in schema
    definitions = schema["$defs"]
    assert set(definitions["ReportRecord"]["properties"]) == set(ReportRecord.__struct_fields__)
    for name, definition in definitions.items():
        assert definition["description"], name
        assert all("description" in each for each in definition["properties"].values()), name
