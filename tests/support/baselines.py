"""Small models on disk, and the baselines that are written of them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.baseline.drift import drift
from jaynes_audit.analyzers.baseline.entry import Baseline
from jaynes_audit.analyzers.baseline.keeping import Keeper, baseline_of
from jaynes_audit.analyzers.checkpoints import open_checkpoint
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.rules import RULES, Finding
from jaynes_audit.analyzers.rules.policy import Expectation, Policy
from jaynes_audit.analyzers.verdict import findings_of
from tests.support.checkpoints import stored, write_file

USUAL = Policy(on=frozenset(rule.code for rule in RULES if rule.is_usual))
TRAINED = Policy(on=USUAL.on, expect=Expectation(changed=("*",)))
TARGET = "export/"

Weights = dict[str, np.ndarray]


def network(*, blocks: int = 5, seed: int = 1957) -> Weights:
    """A few blocks of two matrices each, as many weights of each sign as chance will have it, and gains."""
    dice = np.random.default_rng(seed)
    weights: Weights = {"model.embed_tokens.weight": dice.normal(0, 0.02, (96, 64))}
    for block in range(blocks):
        weights[f"model.layers.{block}.self_attn.o_proj.weight"] = dice.standard_t(5, (64, 64)) * 0.03
        weights[f"model.layers.{block}.mlp.up_proj.weight"] = dice.normal(0, 0.02, (160, 64))
        weights[f"model.layers.{block}.input_layernorm.weight"] = dice.normal(1, 0.1, 64)
    return weights


def baseline_at(target: Path | str) -> Baseline:
    """What is kept of the model there."""
    keeper = Keeper()
    audit = audit_checkpoint(open_checkpoint(str(target)), on_measured=keeper.keep)
    return baseline_of(audit, keeper, findings_of(audit))


def measured(folder: Path, weights: Mapping[str, np.ndarray], dtype: Dtype = Dtype.F32) -> Baseline:
    """What is kept of these weights, written to a file in the folder in this format."""
    target = folder / "model.safetensors"
    write_file(target, {name: stored(values, dtype) for name, values in weights.items()})
    return baseline_at(target)


def told(before: Baseline, now: Baseline, policy: Policy = USUAL, *, is_whole: bool = True) -> list[Finding]:
    """All that has drifted."""
    return list(drift(before, now, policy, target=TARGET, is_whole=is_whole))


def rules_and_subjects(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(each.rule, each.subject) for each in findings]
