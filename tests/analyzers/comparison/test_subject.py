"""A layer is described alike whether its weights can be read or were only reported."""

from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.audit import EVERYTHING, audit_checkpoint, plan_of
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.comparison.subject import Subject, subject_of_layer, subject_of_record
from jaynes_audit.analyzers.record import record_of
from jaynes_audit.analyzers.roles import Role
from tests.support.checkpoint_files import checkpoint, gaussian

FIXTURES = Path(__file__).parents[3] / "fixtures"


@pytest.mark.parametrize(
    "model", ["babble/bf16", "digits", "quantised/deepseek.safetensors", "formats/every_type.onnx"]
)
def test_a_layer_and_its_record_give_one_subject(model: str) -> None:
    opened = open_checkpoint(str(FIXTURES / model))
    layers = {layer.name: subject_of_layer(layer) for layer in plan_of(opened, EVERYTHING).layers}
    records = record_of(audit_checkpoint(opened, jobs=1), ()).layers
    assert len(records) == len(layers) > 0
    assert {record.name: subject_of_record(record) for record in records} == layers


def test_a_subject_says_what_the_header_and_the_name_tell(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model.safetensors", {"model.layers.3.mlp.down_proj.weight": gaussian(64, 96)})
    (layer,) = plan_of(open_checkpoint(str(path)), EVERYTHING).layers
    assert subject_of_layer(layer) == Subject(
        name="model.layers.3.mlp.down_proj.weight",
        tensor="model.layers.3.mlp.down_proj.weight",
        dtype="F32",
        role=Role.MLP_DOWN,
        stack="",
        depth=3,
        rows=64,
        columns=96,
        fan_in=96,
        fan_out=64,
        weights=64 * 96,
    )


def test_parts_of_a_fused_tensor_are_subjects_of_their_own(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model.safetensors", {"h.0.attn.c_attn.weight": gaussian(32, 96)})
    subjects = [subject_of_layer(layer) for layer in plan_of(open_checkpoint(str(path)), EVERYTHING).layers]
    assert [each.role for each in subjects] == [Role.ATTENTION_Q, Role.ATTENTION_K, Role.ATTENTION_V]
    assert {each.tensor for each in subjects} == {"h.0.attn.c_attn.weight"}
    assert {(each.rows, each.columns, each.fan_in, each.fan_out) for each in subjects} == {(32, 32, 32, 32)}


def test_a_vector_has_no_fan_in(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model.safetensors", {"model.norm.weight": np.ones(16, np.float32)})
    (layer,) = plan_of(open_checkpoint(str(path)), EVERYTHING).layers
    subject = subject_of_layer(layer)
    assert (subject.rows, subject.columns, subject.fan_in, subject.weights) == (1, 16, 0, 16)
