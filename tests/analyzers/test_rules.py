"""Every rule objects to exactly what it is there for, and says why it matters and what to do."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from jaynes_audit.analyzers.audit import audit_checkpoint
from jaynes_audit.analyzers.checkpoints import Defect
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.rules import FILE_RULES, RULES, Finding, Level, Precision, Rule
from jaynes_audit.analyzers.rules.values import VALUE_RULES
from jaynes_audit.analyzers.verdict import findings_of
from tests.support.checkpoints import Stored, checkpoint, raw, stored
from tests.support.weights import decoded, encoded

UP = "model.layers.0.mlp.up_proj.weight"
OF_VALUES = frozenset(rule.code for rule in VALUE_RULES)
SOUND = np.random.default_rng(1).standard_normal((20, 30))


def findings(folder: Path, weights: Stored, name: str = UP) -> list[Finding]:
    found = findings_of(audit_checkpoint(checkpoint(folder, {name: weights})))
    return [finding for finding in found if finding.rule in OF_VALUES]


def with_one(value: float) -> np.ndarray:
    weights = SOUND.copy()
    weights[3, 4] = value
    return weights


# ---- the registry


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_rule_says_what_it_finds_why_it_matters_and_what_to_do_and_gives_an_example(rule: Rule) -> None:
    for part in ("\n\nWhy it matters: ", "\nWhat to do: ", "\nExample: "):
        assert rule.documentation.count(part) == 1
    assert all((rule.what, rule.why, rule.remedy))
    assert re.fullmatch(r"\S.*: .+", rule.example, re.DOTALL)
    assert rule.documentation == rule.documentation.strip()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_only_a_rule_that_is_hardly_ever_wrong_is_an_error(rule: Rule) -> None:
    assert rule.level is not Level.ERROR or rule.precision in {Precision.VERY_HIGH, Precision.HIGH}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_every_rule_has_a_code_and_a_name_in_the_same_style(rule: Rule) -> None:
    assert re.fullmatch(r"JN\d{3}", rule.code)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", rule.name)


def test_no_two_rules_share_a_code_or_a_name() -> None:
    assert len({rule.code for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)


def test_rules_stand_in_the_order_of_their_codes() -> None:
    assert [rule.code for rule in RULES] == sorted(rule.code for rule in RULES)


# ---- what each objects to

SIGNS = np.sign(SOUND)
FEW = np.where(SOUND[3, 4] == SOUND, 1e-40, 0.0)  # one weight of all is not zero
FREQUENCY = np.linspace(0, 8000, 201)
CORNERS = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 6000 / 700), 82) / 2595) - 1)
MEL_BANK = np.stack(  # 80 triangles, as speech models store them; zero from 6 kHz on
    [np.interp(FREQUENCY, CORNERS[at : at + 3], [0, 1, 0], left=0, right=0) for at in range(80)], axis=1
)
TENT = 1 - np.abs(np.arange(8) - 3.5) / 4
UPSAMPLING = np.einsum("io,xy->ioxy", np.eye(5), np.outer(TENT, TENT))  # bilinear, each channel for itself
LARGE = 0.02 * np.random.default_rng(3).standard_normal((200, 250))


def as_stored(weights: np.ndarray | Stored, dtype: Dtype = Dtype.F32) -> Stored:
    return weights if isinstance(weights, Stored) else stored(weights, dtype)


def with_zero_rows(number: int, *, axis: int = 0) -> np.ndarray:
    weights = LARGE.copy()
    np.moveaxis(weights, axis, 0)[:number] = 0
    return weights


def flushed(share: float) -> np.ndarray:
    return np.where(np.abs(LARGE) < np.quantile(np.abs(LARGE), share), 0, LARGE)


def saturated(largest: float, number: int, dtype: Dtype) -> Stored:
    weights = LARGE.copy()
    weights.reshape(-1)[:: weights.size // number] = -largest
    return stored(weights, dtype)


def with_largest(value: float, weights: np.ndarray = LARGE) -> np.ndarray:
    changed = weights.copy()
    changed.reshape(-1)[7] = value
    return changed


def rescaled(factor: float, dtype: Dtype) -> Stored:
    return stored(decoded(encoded(LARGE, dtype), dtype).astype(np.float32) * np.float32(factor), dtype)


OBJECTED: dict[str, list[np.ndarray]] = {
    "JN101": [with_one(np.nan), with_one(np.inf), with_one(-np.inf), np.full((4, 4), np.nan)],
    "JN102": [np.zeros((20, 30)), -np.zeros((20, 30)), np.zeros((2, 2))],
    "JN103": [np.full((20, 30), 0.1), np.full((20, 30), -7.0), np.full((300, 400), 0.3)],
    "JN104": [with_zero_rows(3), with_zero_rows(100), with_zero_rows(3, axis=1)],
    "JN106": [flushed(0.01), flushed(0.02), flushed(0.12), flushed(0.6)],
    "JN111": [with_largest(6.8e36), with_largest(-6.8e36), with_largest(100.0)],
}
"""In every format of a wide range."""

OF_A_FORMAT: dict[str, list[Stored]] = {
    "JN105": [
        saturated(65504, 1, Dtype.F16),
        saturated(448, 1000, Dtype.F8_E4M3),
        saturated(57344, 1000, Dtype.F8_E5M2),
    ],
    "JN106": [stored(LARGE * 1e-3, Dtype.F16)],
    "JN107": [stored(decoded(encoded(LARGE, narrow), narrow)) for narrow in (Dtype.BF16, Dtype.F16)],
    "JN111": [stored(with_largest(0.02 * 2.0**16), Dtype.F16)],
    "JN112": [
        raw(encoded(LARGE, Dtype.BF16), Dtype.F16),
        raw(encoded(LARGE, Dtype.F16).view(np.uint16), Dtype.BF16),
    ],
    "JN114": [rescaled(1.05, Dtype.BF16), rescaled(0.5**0.5, Dtype.BF16), rescaled(0.9, Dtype.F16)],
}

NOT_OBJECTED: dict[str, list[np.ndarray | Stored]] = {
    "JN101": [SOUND, with_one(3e38), with_one(0)],
    "JN102": [SOUND, FEW, np.zeros((1, 1)), np.array(0.0)],
    "JN103": [SOUND, np.full(20, 0.1), np.full((1, 20), 1.0), SIGNS, with_one(0) * 0, np.where(SOUND > 0, 1.0, 0)],
    "JN104": [
        LARGE,
        with_zero_rows(2),
        np.zeros((200, 250)),
        LARGE * (np.random.default_rng(4).random((200, 250)) > 0.99),
        MEL_BANK,
    ],
    "JN105": [
        SOUND,
        with_one(3.4e38),
        saturated(65503 * 0.99, 1, Dtype.F16),
        saturated(448, 4, Dtype.F8_E4M3),
        stored(448 * LARGE / np.abs(LARGE).max(axis=1, keepdims=True), Dtype.F8_E4M3),  # as a quantiser scales rows
    ],
    "JN106": [
        *(LARGE, flushed(0.004), with_zero_rows(100), stored(LARGE, Dtype.F16), stored(LARGE, Dtype.F8_E4M3)),
        LARGE * (np.random.default_rng(7).random((200, 250)) > 0.09),  # zeros that fell where they may
        stored(LARGE * 1e-4, Dtype.BF16),
        np.round(LARGE / 0.002) * 0.002,  # as a quantiser of 8 bits leaves them
        0.001 * SIGNS + SOUND / 1e4,
        *(MEL_BANK, -MEL_BANK, UPSAMPLING),
    ],
    "JN107": [LARGE, SIGNS, np.full((200, 250), 0.5), stored(LARGE, Dtype.BF16), stored(LARGE, Dtype.F16)],
    "JN111": [LARGE, with_largest(0.02 * 200), with_largest(0.02 * 30, LARGE[:20, :20]), LARGE * 1e9, FEW],
    "JN112": [
        *(stored(LARGE, dtype) for dtype in (Dtype.F16, Dtype.BF16, Dtype.F64)),
        *(stored(SIGNS * (1 + SOUND / 100), dtype) for dtype in (Dtype.F16, Dtype.BF16, Dtype.F32)),
        with_largest(6.8e36),
        np.where(np.arange(250) % 10, LARGE, LARGE * 1e-12),  # columns that nothing trains any more
        stored(np.where(np.arange(250) % 10, LARGE, LARGE * 1e-12), Dtype.BF16),
        stored(np.where(np.arange(250) % 10, LARGE * 1e-12, LARGE), Dtype.BF16),
        np.random.default_rng(5).random((200, 250)),
    ],
    "JN114": [
        *(stored(LARGE, dtype) for dtype in (Dtype.F16, Dtype.BF16)),
        *(rescaled(factor, dtype) for factor in (-0.5, 4.0) for dtype in (Dtype.F16, Dtype.BF16)),
        stored(decoded(encoded(LARGE, Dtype.F16), Dtype.F16), Dtype.BF16),
        stored(decoded(encoded(LARGE, Dtype.BF16), Dtype.BF16), Dtype.F16),
        stored(np.round(LARGE / 0.001) * 0.001, Dtype.BF16),
    ],
}


def cases(table: Mapping[str, Sequence[np.ndarray | Stored]]) -> list[object]:
    rules = {rule.code: rule for rule in VALUE_RULES}
    return [
        pytest.param(rules[code], weights, id=f"{code}-{number}")
        for code, examples in table.items()
        for number, weights in enumerate(examples)
    ]


@pytest.mark.parametrize(("rule", "weights"), cases(OBJECTED))
@pytest.mark.parametrize("dtype", [Dtype.F32, Dtype.BF16, Dtype.F64])
def test_a_rule_objects_to_its_fault_alone(rule: Rule, weights: np.ndarray, dtype: Dtype, tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, stored(weights, dtype))
    assert (finding.rule, finding.name, finding.level, finding.subject) == (rule.code, rule.name, rule.level, UP)
    assert finding.sentence


@pytest.mark.parametrize(("rule", "weights"), cases(OF_A_FORMAT))
def test_a_rule_about_a_format_objects_to_its_fault_alone(rule: Rule, weights: Stored, tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, weights)
    assert (finding.rule, finding.level) == (rule.code, rule.level)
    assert finding.sentence


@pytest.mark.parametrize(
    ("made_in", "stored_in"), [(Dtype.F32, Dtype.F32), *product((Dtype.F16, Dtype.BF16), repeat=2)]
)
def test_bytes_in_the_wrong_order_are_no_weights(made_in: Dtype, stored_in: Dtype, tmp_path: Path) -> None:
    codes = encoded(LARGE, made_in)
    swapped = raw(codes.view(f"u{codes.itemsize}").byteswap(), stored_in)
    [sentence] = [finding.sentence for finding in findings(tmp_path, swapped) if finding.rule == "JN112"]
    assert f"the bits look like {made_in} with its bytes in the wrong order" in sentence


@pytest.mark.parametrize("codes", [encoded(LARGE, Dtype.BF16).astype(np.uint32).byteswap() >> 16, np.arange(50_000)])
def test_whole_numbers_and_swapped_bfloat16_under_float32_are_no_weights(codes: np.ndarray, tmp_path: Path) -> None:
    patterns = raw(codes.astype(np.uint32).reshape(200, 250), Dtype.F32)
    assert "JN112" in {finding.rule for finding in findings(tmp_path, patterns)}


@pytest.mark.parametrize(("rule", "weights"), cases(NOT_OBJECTED))
def test_a_rule_has_nothing_against_other_weights(rule: Rule, weights: np.ndarray | Stored, tmp_path: Path) -> None:
    assert rule.code not in {finding.rule for finding in findings(tmp_path, as_stored(weights))}


def test_every_rule_of_values_has_examples() -> None:
    assert {rule.code for rule in VALUE_RULES} == {*OBJECTED, *OF_A_FORMAT} == set(NOT_OBJECTED)


def test_nan_and_infinity_are_told_apart(tmp_path: Path) -> None:
    weights = with_one(np.nan)
    weights[0, :2] = np.inf, -np.inf
    (finding,) = findings(tmp_path, stored(weights))
    assert finding.sentence == "1 NaN and 2 infinite among 600 weights"


@pytest.mark.parametrize("name", ["model.layers.0.mlp.up_proj.bias", "base_model.model.layers.0.q_proj.lora_B.weight"])
def test_what_training_starts_from_may_be_zero(name: str, tmp_path: Path) -> None:
    assert findings(tmp_path, stored(np.zeros((20, 30))), name) == []


@pytest.mark.parametrize("shape", [(20,), (1, 20)])
def test_a_vector_of_zeros_is_a_note(shape: tuple[int, ...], tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, stored(np.zeros(shape)), "model.layers.0.input_layernorm.weight")
    assert (finding.rule, finding.level) == ("JN102", Level.NOTE)


GAINS = [f"model.layers.{layer}.input_layernorm.weight" for layer in range(4)]


@pytest.mark.parametrize(("zero", "level"), [(1, Level.ERROR), (2, Level.NOTE), (4, Level.NOTE)])
def test_zero_gains_are_an_error_where_those_of_most_other_blocks_are_not(
    zero: int, level: Level, tmp_path: Path
) -> None:
    gains = {name: stored(np.full(20, float(layer >= zero))) for layer, name in enumerate(GAINS)}
    found = findings_of(audit_checkpoint(checkpoint(tmp_path, gains)))
    assert [(finding.rule, finding.level) for finding in found] == [("JN102", level)] * zero


CONTROLNET = [*(f"controlnet_down_blocks.{number}.weight" for number in range(6)), "controlnet_mid_block.weight"]
LAST_OF_CONTROLNET = ("middle_block_out.0", "input_hint_block.14")  # as its authors name them
SOUND_ONES = [f"down_blocks.{stage}.resnets.0.conv{number}.weight" for stage in range(2) for number in (1, 2)]
BEGUN_FROM_ZERO: list[tuple[list[str], list[str]]] = [
    ([*CONTROLNET, "controlnet_cond_embedding.conv_out.weight"], SOUND_ONES),
    (
        [f"zero_convs.{number}.0.weight" for number in range(4)] + [f"{last}.weight" for last in LAST_OF_CONTROLNET],
        [f"input_hint_block.{number}.weight" for number in (0, 2, 4)],
    ),
    (
        [*(f"blocks.{block}.adaLN_modulation.1.weight" for block in range(3)), "final_layer.linear.weight"],
        [f"blocks.{block}.mlp.fc{number}.weight" for block in range(3) for number in (1, 2)],
    ),
    (
        [f"mid_block.temp_convs.{number}.conv4.3.weight" for number in range(2)],
        [f"mid_block.temp_convs.{number}.conv3.3.weight" for number in range(2)],
    ),
    ([f"quantizer.layers.{number}.codebook.{part}" for number in range(4) for part in ("embed", "embed_avg")], []),
    ([f"h.{block}.attn.c_proj.weight" for block in range(4)], [f"h.{block}.attn.c_attn.weight" for block in range(4)]),
]
"""Networks before training: what begins from zero, and some of the rest."""


def levels_of_zeros(folder: Path, zeros: Sequence[str], others: Sequence[str]) -> set[Level]:
    weights = {name: stored(np.zeros((20, 30))) for name in zeros} | {name: stored(SOUND) for name in others}
    found = findings_of(audit_checkpoint(checkpoint(folder, weights)))
    return {finding.level for finding in found if finding.rule == "JN102"}


@pytest.mark.parametrize(("zeros", "others"), BEGUN_FROM_ZERO)
def test_a_network_that_begins_some_branches_from_zero_has_no_error(
    zeros: list[str], others: list[str], tmp_path: Path
) -> None:
    assert levels_of_zeros(tmp_path, zeros, others) <= {Level.WARNING, Level.NOTE}


def test_matrices_that_begin_from_zero_are_told_once_a_kind(tmp_path: Path) -> None:
    weights = {name: stored(np.zeros((20, 30))) for name in CONTROLNET}
    found = findings_of(audit_checkpoint(checkpoint(tmp_path, weights)))
    assert [(each.subject, each.sentence) for each in found if each.rule == "JN102"] == [
        (CONTROLNET[0], "all 600 weights are zero, and so in all 6 of the kind, as before any training"),
        (CONTROLNET[-1], "all 600 weights are zero, as before any training"),
    ]


@pytest.mark.parametrize(
    "zeros",
    [
        SOUND_ONES[:1],
        SOUND_ONES[:2],
        [*CONTROLNET, SOUND_ONES[0]],
        ["lm_head.weight"],
        ["model.layers.0.mlp.down_proj.weight"],
        [f"model.layers.{block}.self_attn.{part}_proj.weight" for block in range(4) for part in "qkv"],
        [f"model.layers.{block}.mlp.up_proj.weight" for block in range(4)],
    ],
)
def test_a_zero_matrix_is_an_error_where_its_siblings_are_not_zero_or_it_can_learn_nothing(
    zeros: list[str], tmp_path: Path
) -> None:
    assert Level.ERROR in levels_of_zeros(tmp_path, zeros, [name for name in SOUND_ONES if name not in zeros])


def test_the_last_gains_of_residual_blocks_may_all_be_zero(tmp_path: Path) -> None:
    gains = [f"layer1.{block}.bn{number}.weight" for block in range(3) for number in (1, 2, 3)]
    weights = {name: stored(np.full(20, float(not name.endswith("bn3.weight")))) for name in gains}
    found = findings_of(audit_checkpoint(checkpoint(tmp_path, weights)))
    assert [finding.level for finding in found if finding.rule == "JN102"] == [Level.NOTE] * 3


@pytest.mark.parametrize(("zero", "objects"), [(39, False), (41, True)])
def test_a_fifth_of_an_embedding_may_be_empty(zero: int, objects: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a table
    found = findings(tmp_path, stored(with_zero_rows(zero)), "model.embed_tokens.weight")
    assert [finding.rule for finding in found] == ["JN104"] * objects


def test_a_vector_may_be_dominated_by_one_entry_but_not_by_a_flipped_bit(tmp_path: Path) -> None:
    bias = 0.02 * np.random.default_rng(6).standard_normal(1000)
    name = "model.layers.0.mlp.up_proj.bias"
    for largest, rules in ((50.0, []), (1000.0, ["JN111"]), (6.8e36, ["JN111"])):
        assert [each.rule for each in findings(tmp_path, stored(with_largest(largest, bias)), name)] == rules


@pytest.mark.parametrize("dtype", [Dtype.BF16, Dtype.F32, Dtype.F64])
def test_a_gain_whose_flipped_bit_makes_it_the_greatest_number_is_a_runaway(dtype: Dtype, tmp_path: Path) -> None:
    greatest = {Dtype.BF16: float.fromhex("0x1.fep127")}.get(dtype, float(np.finfo(np.float32).max))
    gains = with_largest(greatest, np.random.default_rng(6).normal(1, 0.1, 1000))
    found = findings(tmp_path, stored(gains, dtype), "model.layers.0.input_layernorm.weight")
    assert [each.rule for each in found] == ["JN111"]


def test_a_mask_of_greatest_numbers_is_no_runaway(tmp_path: Path) -> None:
    mask = np.where(np.tri(200, dtype=bool), 0, np.finfo(np.float32).min)
    assert "JN111" not in {each.rule for each in findings(tmp_path, stored(mask), "model.table.weight")}


@pytest.mark.parametrize(("factor", "told"), [(1.05, "1.05"), (0.9, "0.9"), (-2.1, "1.05")])
def test_the_factor_of_a_second_rounding_is_told(factor: float, told: str, tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, rescaled(factor, Dtype.BF16))
    assert f"BF16 weights were multiplied by {told}, or a power of two times that" in finding.sentence


def test_padded_precision_is_told_once_of_a_model_and_only_where_most_of_it_is_padded(tmp_path: Path) -> None:
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(4)]
    rounded = stored(decoded(encoded(LARGE, Dtype.BF16), Dtype.BF16))
    for padded, sentences in ((2, []), (3, ["3 of 4 matrices hold BF16 values in F32"])):
        tensors = {name: rounded if at < padded else stored(LARGE + at) for at, name in enumerate(names)}
        audit = audit_checkpoint(checkpoint(tmp_path, tensors))
        found = [finding for finding in findings_of(audit) if finding.rule == "JN107"]
        assert [finding.sentence for finding in found] == sentences
        assert all(finding.subject == audit.target for finding in found)


def test_float32_that_differ_in_their_low_halves_alone_are_not_constant(tmp_path: Path) -> None:
    weights = 1 + np.random.default_rng(2).random((100, 100)) * 0.007
    assert findings(tmp_path, stored(weights)) == []


def test_a_constant_is_told_with_its_value(tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, stored(np.full((20, 30), -0.25)))
    assert finding.sentence == "all 600 weights have the magnitude 0.25"


# ---- findings of an audit


@pytest.mark.parametrize("rule", FILE_RULES, ids=lambda rule: rule.code)
def test_a_defect_of_a_file_is_the_finding_of_its_rule(rule: Rule, tmp_path: Path) -> None:
    sound = checkpoint(tmp_path, {UP: stored(SOUND)})
    defect = Defect(rule=rule.code, case="some-case", file="model.safetensors", sentence="It is not whole.")
    audit = audit_checkpoint(replace(sound, defects=(defect,)))
    [finding] = [finding for finding in findings_of(audit) if finding.rule != "JN904"]
    assert finding == Finding(
        rule=rule.code, name=rule.name, level=rule.level, subject="model.safetensors", sentence="It is not whole."
    )
    assert "JN904" in {finding.rule for finding in findings_of(audit)}
    assert not audit.coverage.complete


def test_a_sound_checkpoint_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path, stored(SOUND)) == []


def test_findings_come_worst_first_and_then_by_rule_and_layer(tmp_path: Path) -> None:
    tensors = {
        "model.layers.0.mlp.up_proj.weight": stored(np.full((4, 4), 1.0)),
        "model.layers.1.mlp.up_proj.weight": stored(np.zeros((4, 4))),
        "model.layers.10.mlp.up_proj.weight": stored(np.full((4, 4), np.nan)),
        "model.layers.2.mlp.up_proj.weight": stored(np.full((4, 4), np.inf)),
    }
    defects = [Defect(rule=code, case="", file="a.b.file", sentence="It is not whole.") for code in ("JN006", "JN001")]
    whole = replace(checkpoint(tmp_path, tensors), defects=tuple(defects))
    found = findings_of(audit_checkpoint(whole))
    assert [(finding.level, finding.rule, finding.subject) for finding in found] == [
        (Level.ERROR, "JN001", "a.b.file"),
        (Level.ERROR, "JN006", "a.b.file"),
        (Level.ERROR, "JN101", "model.layers.2.mlp.up_proj.weight"),
        (Level.ERROR, "JN101", "model.layers.10.mlp.up_proj.weight"),
        (Level.ERROR, "JN102", "model.layers.1.mlp.up_proj.weight"),
        (Level.WARNING, "JN103", "model.layers.0.mlp.up_proj.weight"),
        (Level.WARNING, "JN904", whole.location),
    ]
