"""Which source of a setting wins, and what becomes of it."""

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.analyzers.gate import about_the_run
from jaynes_audit.analyzers.rules import RULES, USUAL_THRESHOLDS, Level
from jaynes_audit.analyzers.rules.policy import Expectation
from jaynes_audit.cli.configuration.merging import settings_of
from jaynes_audit.cli.configuration.options import Options
from jaynes_audit.cli.configuration.policy import REFUSALS
from jaynes_audit.cli.configuration.settings import AllowPickle, Settings
from jaynes_audit.cli.exit_codes import FailOn

USUAL = {rule.code for rule in RULES if rule.is_usual}
LAST_DAY = date(2027, 3, 31)
IGNORE = '[[ignore]]\nrule = "JN102"\ntensor = "*.router.bias"\nreason = "frozen"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / ".git").mkdir()
    return tmp_path


def settings(
    folder: Path, content: str = "", options: Options | None = None, environ: Mapping[str, str] | None = None
) -> Settings:
    if content:
        (folder / "jaynes.toml").write_text(content)
    return settings_of(options or Options(), environ or {}, folder)


# ---- precedence: key, what the file says, the variable, the option, the field of the settings, each one's value there

PRECEDENCE = [
    ("targets", '["a/"]', None, {"targets": ["b/"]}, "targets", [("a/",), None, ("b/",)], ()),
    ("baseline", '"a"', "b", {"baseline": "c"}, "baseline", ["a", "b", "c"], ""),
    ("baseline", '"a"', "b", {"no_baseline": True}, "baseline", ["a", "b", ""], ""),
    (
        *("fail-on", '"note"', "warning", {"fail_on": FailOn.ERROR}, "fail_on"),
        *([FailOn.NOTE, FailOn.WARNING, FailOn.ERROR], FailOn.ERROR),
    ),
    (
        *("output", '["json"]', "csv,json=a.json", {"output": ["jsonl"]}, "outputs"),
        *([("json",), ("csv", "json=a.json"), ("jsonl",)], ("table",)),
    ),
    (
        *("allow-pickle", '"never"', "weights", {"allow_pickle": AllowPickle.NEVER}, "allow_pickle"),
        *([AllowPickle.NEVER, AllowPickle.WEIGHTS, AllowPickle.NEVER], AllowPickle.WEIGHTS),
    ),
    (
        *("select", '["JN101"]', "JN102, JN103", {"select": ["JN401,JN402"]}, "on"),
        *([REFUSALS | {"JN101"}, REFUSALS | {"JN102", "JN103"}, REFUSALS | {"JN401", "JN402"}], USUAL),
    ),
    (
        *("ignore-rule", '["JN101"]', "JN102", {"ignore_rule": ["JN103"]}, "on"),
        *([USUAL - {"JN101"}, USUAL - {"JN102"}, USUAL - {"JN103"}], USUAL),
    ),
    (
        *("extend-select", '["JN406"]', "JN101", {"extend_select": ["JN406"]}, "on"),
        *([USUAL | {"JN406"}, USUAL, USUAL | {"JN406"}], USUAL),
    ),
]


@pytest.mark.parametrize(
    ("key", "in_file", "variable", "option", "field", "values", "default"),
    PRECEDENCE,
    ids=[f"{row[0]} {next(iter(row[3]))}" for row in PRECEDENCE],
)
def test_an_option_goes_before_a_variable_before_the_file_before_the_default(  # noqa: PLR0917 - one row of the table
    folder, key, in_file, variable, option, field, values, default
) -> None:
    name = f"JAYNES_{key.upper().replace('-', '_')}"
    environ = {name: variable} if variable else {}
    content = f"{key} = {in_file}\n"

    def value(settings: Settings) -> object:
        return set(settings.policy.on) if field == "on" else getattr(settings, field)

    by_default = settings(folder)
    assert (value(by_default), by_default.origins[key]) == (default, "default")
    by_file = settings(folder, content)
    assert (value(by_file), by_file.origins[key]) == (values[0], "jaynes.toml")
    if variable:
        by_variable = settings(folder, content, environ=environ)
        assert (value(by_variable), by_variable.origins[key]) == (values[1], name)
    by_option = settings(folder, content, Options(**option), environ)
    flag = "command line" if key == "targets" else f"--{next(iter(option)).replace('_', '-')}"
    assert (value(by_option), by_option.origins[key]) == (values[2], flag)


@pytest.mark.parametrize(("text", "means"), [("1", True), ("True", True), ("on", True), ("0", False), ("NO", False)])
def test_a_variable_says_true_or_false_in_the_usual_ways(folder, text, means) -> None:
    previews = {rule.code for rule in RULES if rule.is_preview}
    on = settings(folder, environ={"JAYNES_PREVIEW": text}).policy.on
    assert on == (USUAL | previews if means else USUAL)


def test_an_empty_variable_says_nothing(folder) -> None:
    assert settings(folder, 'baseline = "a"', environ={"JAYNES_BASELINE": "", "JAYNES_CONFIG": ""}).baseline == "a"


def test_a_variable_that_we_do_not_know_is_no_error(folder) -> None:
    settings(folder, environ={"JAYNES_KERNEL": "numpy", "JAYNES_WHATEVER": "1"})


# ---- which rules are on


def test_a_prefix_means_all_rules_of_it_that_are_on_by_default(folder) -> None:
    of_drift = {code for code in USUAL if code.startswith("JN4")}
    assert settings(folder, options=Options(select=["JN4"])).policy.on == REFUSALS | of_drift
    both = settings(folder, options=Options(select=["JN101"], extend_select=["JN4"]))
    assert both.policy.on == REFUSALS | of_drift | {"JN101"}
    assert settings(folder, options=Options(ignore_rule=["JN4"])).policy.on == USUAL - of_drift


def test_that_a_file_was_refused_is_told_whatever_is_selected_unless_it_is_ignored(folder) -> None:
    assert {f"JN{number:03}" for number in (1, 2, 3, 4, 5, 6, 7, 9, 20, 22)} == REFUSALS
    assert settings(folder, options=Options(select=["JN4"])).policy.on >= REFUSALS
    assert "JN001" not in settings(folder, options=Options(select=["JN4"], ignore_rule=["JN001"])).policy.on


@pytest.mark.parametrize("code", [rule.code for rule in RULES if not rule.is_usual])
def test_a_rule_that_is_off_by_default_is_turned_on_by_its_whole_code_only(folder, code) -> None:
    assert code not in settings(folder, options=Options(select=[code[:3]])).policy.on
    assert code in settings(folder, options=Options(select=[code])).policy.on
    assert code in settings(folder, options=Options(extend_select=[code])).policy.on


def test_previews_are_turned_on_all_at_once(folder) -> None:
    unusual = [rule for rule in RULES if not rule.is_usual]
    on = settings(folder, "preview = true").policy.on
    assert on - USUAL == {rule.code for rule in unusual if rule.is_preview}


def test_what_is_ignored_stays_off_even_if_selected(folder) -> None:
    chosen = Options(select=["JN1"], extend_select=["JN101"], ignore_rule=["JN101"])
    assert "JN101" not in settings(folder, options=chosen).policy.on


def test_pickles_that_are_not_allowed_are_an_error_whatever_else_is_said(folder) -> None:
    content = 'allow-pickle = "never"\nselect = ["JN101"]\nignore-rule = ["JN021"]\n[severity]\nJN021 = "note"\n'
    policy = settings(folder, content).policy
    assert "JN021" in policy.on
    assert policy.levels["JN021"] is Level.ERROR


# ---- what else becomes of a file


def test_levels_thresholds_and_expectations_reach_the_policy(folder) -> None:
    policy = settings(
        folder,
        """
        [severity]
        JN403 = "error"
        [thresholds]
        sigma-rel = 1
        [expect]
        dtype = "bf16"
        changed = ["*.mlp.*"]
        [[override]]
        tensor = "*.embed_tokens.*"
        thresholds = { dead-rows = 0.3, sigma-rel = 0.5 }
        """,
    ).policy
    assert policy.levels == {"JN403": Level.ERROR}
    assert policy.thresholds == USUAL_THRESHOLDS.with_values({"sigma-rel": 1.0})
    assert policy.expect == Expectation(dtype="BF16", changed=("*.mlp.*",))
    assert policy.thresholds_of("model.embed_tokens.weight").sigma_rel == 0.5
    assert policy.thresholds_of("model.embed_tokens.weight").mu_abs == USUAL_THRESHOLDS.mu_abs
    assert policy.thresholds_of("model.mlp.weight").sigma_rel == 1.0


@pytest.mark.parametrize(
    ("name", "dtype"), [("bf16", "BF16"), ("BF16", "BF16"), ("fp16", "F16"), ("float32", "F32"), ("f8_e4m3", "F8_E4M3")]
)
def test_a_number_format_goes_by_the_names_that_people_use(folder, name, dtype) -> None:
    assert settings(folder, f'[expect]\ndtype = "{name}"').policy.expect.dtype == dtype


def test_an_ignore_says_where_it_is_written(folder) -> None:
    first, second = settings(folder, IGNORE + IGNORE).policy.ignores
    assert (first.where, second.where) == ("jaynes.toml, ignore 1", "jaynes.toml, ignore 2")


@pytest.mark.parametrize(("days", "expired"), [(-1, False), (0, False), (1, True)])
def test_an_ignore_holds_to_the_end_of_its_last_day(folder, days, expired) -> None:
    policy = settings(folder, f"{IGNORE}until = {LAST_DAY}\n").policy
    findings = about_the_run(policy, [], today=LAST_DAY + timedelta(days=days), is_whole=True)
    assert any(finding.rule == "JN902" for finding in findings) is expired


# ---- paths


@pytest.fixture
def below(folder: Path) -> Path:
    below = folder / "train" / "run"
    below.mkdir(parents=True)
    return below


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("export/", "../../export/"),
        ("export/*.safetensors", "../../export/*.safetensors"),
        ("/models/a", "/models/a"),
        ("org/name@v1", "org/name@v1"),
        ("hf://name", "hf://name"),
        ("train/other", "../../train/other"),
        ("gpt2", "../../gpt2"),
    ],
)
def test_a_target_in_a_file_counts_from_the_folder_of_the_file(folder, below, written, told) -> None:
    (folder / "jaynes.toml").write_text(f'targets = ["{written}"]')
    assert settings(below).targets == (told,)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("baselines/{name}.jaynes.jsonl", "../../baselines/{name}.jaynes.jsonl"),
        ("origin/main:baselines/a.jsonl", "origin/main:../../baselines/a.jsonl"),
        ("/kept/a.jsonl", "/kept/a.jsonl"),
        ("/kept:here/a.jsonl", "/kept:here/a.jsonl"),
        ("./here:a.jsonl", "../.././here:a.jsonl"),
    ],
)
def test_a_baseline_in_a_file_counts_from_the_folder_of_the_file(folder, below, written, told) -> None:
    (folder / "here:a.jsonl").touch()
    (folder / "jaynes.toml").write_text(f'baseline = "{written}"')
    assert settings(below).baseline == told


def test_reports_go_to_the_folder_of_the_file_that_asks_for_them(folder, below) -> None:
    (folder / "jaynes.toml").write_text('output = ["table", "json=out/a.json", "csv=-", "jsonl=/tmp/a"]')
    assert settings(below).outputs == ("table", "json=../../out/a.json", "csv=-", "jsonl=/tmp/a")


def test_what_the_command_line_and_the_environment_name_counts_from_the_working_directory(folder, below) -> None:
    (folder / "jaynes.toml").write_text('baseline = "a"')
    told = settings(below, options=Options(targets=["x/"]), environ={"JAYNES_BASELINE": "b"})
    assert (told.targets, told.baseline) == (("x/",), "b")


# ---- misuse


@pytest.mark.parametrize(
    ("options", "environ", "sentence"),
    [
        ({"baseline": "a", "no_baseline": True}, {}, "--baseline and --no-baseline contradict each other"),
        ({"config": Path("a"), "no_config": True}, {}, "--config and --no-config contradict each other"),
        ({"baseline": ""}, {}, "--baseline is empty, as when a variable was not set"),
        ({"targets": [""]}, {}, "command line: this is blank"),
        ({"select": ["JN4O4"]}, {}, "--select: 'JN4O4' is no code of a rule; did you mean 'JN404'?"),
        ({"select": ["jn4"]}, {}, "--select: 'jn4' is no code of a rule; did you mean 'JN4'?"),
        ({"extend_select": ["JN1,"]}, {}, "--extend-select: '' is no code of a rule"),
        ({"ignore_rule": ["all-zero-tensor"]}, {}, "'all-zero-tensor' is no code of a rule; its code is 'JN102'"),
        ({"output": ["jsn"]}, {}, "--output: there is no format 'jsn'; did you mean 'json'?"),
        ({}, {"JAYNES_FAIL_ON": "eror"}, "JAYNES_FAIL_ON: 'eror' has no meaning here; did you mean 'error'?"),
        ({}, {"JAYNES_ALLOW_PICKLE": "?"}, "JAYNES_ALLOW_PICKLE: '?' has no meaning here; choose from never, weights"),
        ({}, {"JAYNES_PREVIEW": "2"}, "JAYNES_PREVIEW is '2', which is neither true nor false; write 1 or 0"),
        ({}, {"JAYNES_OUTPUT": "tabel"}, "JAYNES_OUTPUT: there is no format 'tabel'; did you mean 'table'?"),
        ({}, {"JAYNES_SELECT": "\udc80\x1b"}, r"JAYNES_SELECT: '\udc80\x1b' is no code of a rule; correct it"),
    ],
)
def test_what_has_no_meaning_is_said_with_where_it_was_said(folder, options, environ, sentence) -> None:
    with pytest.raises(UsageError) as told:
        settings(folder, options=Options(**options), environ=environ)
    assert sentence in str(told.value)
