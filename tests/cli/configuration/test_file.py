"""What is said of a key, a name or a value in a configuration that has no meaning."""

from datetime import date
from importlib.metadata import version
from pathlib import Path

import pytest

from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.cli.configuration.merging import effective_of
from jaynes_audit.cli.configuration.options import Options
from jaynes_audit.cli.configuration.version import check_version
from tests.support import fuzzing
from tests.support.configuration_fuzz import FUZZ

IGNORE = '[[ignore]]\nrule = "JN102"\ntensor = "*.bias"\nreason = "frozen"\n'

MISTAKES = {
    'fail-onn = "error"': "at `$`: there is no key 'fail-onn'; did you mean 'fail-on'?",
    'fail_on = "error"': "at `$`: there is no key 'fail_on'; did you mean 'fail-on'?",
    "xyz = 1": "at `$`: there is no key 'xyz'; correct it",
    '"` - at `$.x" = 1': "at `$`: there is no key '` - at `$.x'; correct it",
    '"\\u001b[2J" = 1': "at `$`: there is no key '\\x1b[2J'; correct it",
    "preview = 1": "at `$.preview`: expected `bool`, got `int`; correct it",
    'targets = "export/"': "at `$.targets`: expected `array`, got `str`; correct it",
    'targets = ["a", 2]': "at `$.targets[1]`: expected `str`, got `int`; correct it",
    'targets = ["a", " "]': "at `$.targets[1]`: this is blank; say something here",
    'fail-on = "eror"': "at `$.fail-on`: 'eror' has no meaning here; did you mean 'error'?",
    'fail-on = "x - at `$.preview`"': "at `$.fail-on`: 'x - at `$.preview`' has no meaning here",
    "fail-on = 0": "at `$.fail-on`: expected `str`, got `int`; correct it",
    'allow-pickle = "always"': "at `$.allow-pickle`: 'always' has no meaning here; choose from never, weights",
    'output = ["table", "sarf=a"]': "at `$.output[1]`: there is no format 'sarf'; did you mean 'sarif'?",
    'select = ["JN4", "JN4O4"]': "at `$.select[1]`: 'JN4O4' is no code of a rule; did you mean 'JN404'?",
    'extend-select = ["zero"]': "at `$.extend-select[0]`: 'zero' is no code of a rule; correct it",
    'ignore-rule = ["sigma-drift"]': "at `$.ignore-rule[0]`: 'sigma-drift' is no code of a rule; its code is 'JN401'",
    'severity.JN4 = "note"': "at `$.severity`: 'JN4' is no code of a rule; did you mean",
    'severity.JN403 = "fatal"': "at `$.severity.JN403`: a rule has no such level; choose from error, warning, note",
    "severity.JN403 = 1": "at `$.severity.JN403`: a rule has no such level; choose from error, warning, note",
    "severity = 1": "at `$.severity`: expected `object`, got `int`; correct it",
    "thresholds.sigma-rell = 1": "at `$.thresholds`: there is no threshold 'sigma-rell'; did you mean 'sigma-rel'?",
    "thresholds.sigma-rel = -0.1": "at `$.thresholds`: 'sigma-rel' must be a finite number of at least 0; correct it",
    "thresholds.sigma-rel = nan": "'sigma-rel' must be a finite number of at least 0",
    "thresholds.sigma-rel = inf": "'sigma-rel' must be a finite number of at least 0",
    "thresholds.sigma-rel = true": "'sigma-rel' must be a finite number of at least 0",
    "thresholds.sigma-rel = '1'": "'sigma-rel' must be a finite number of at least 0",
    f"thresholds.sigma-rel = 0x{'f' * 400}": "'sigma-rel' must be a finite number of at least 0",
    'expect.dtype = "bf61"': "at `$.expect.dtype`: 'bf61' is no number format; did you mean 'BF16'?",
    f"expect.changed = ['{'[' * 1001}']": "at `$.expect.changed[0]`: expected `str` of length <= 1000; correct it",
    f"targets = ['{'[' * 4097}']": "at `$.targets[0]`: expected `str` of length <= 4096; correct it",
    "expect.dtypes = 1": "at `$.expect`: there is no key 'dtypes'; did you mean 'dtype'?",
    'expect.changed = [""]': "at `$.expect.changed[0]`: this is blank; say something here",
    '[[override]]\ntensor = "*"': "at `$.override[0]`: object missing required field `thresholds`; correct it",
    '[[override]]\ntensor = ""\nthresholds = {}': "at `$.override[0].tensor`: this is blank",
    '[[override]]\ntensor = "*"\nthresholds = { x = 1 }': "at `$.override[0].thresholds`: there is no threshold 'x'",
    '[[override]]\ntensors = "*"\nthresholds = {}': "there is no key 'tensors'; did you mean 'tensor'?",
    f'{IGNORE}[[ignore]]\nrule = "JN1"\ntensor = "*"': "at `$.ignore[1]`: object missing required field `reason`",
    f"{IGNORE}until = 2027-03-31T00:00:00Z": "at `$.ignore[0].until`: expected `date | null`, got `datetime`",
    f'{IGNORE}until = "soon"': "at `$.ignore[0].until`: invalid RFC3339 encoded date; correct it",
    f"{IGNORE}untill = 2027-03-31": "at `$.ignore[0]`: there is no key 'untill'; did you mean 'until'?",
    IGNORE.replace("frozen", ""): "at `$.ignore[0].reason`: this is blank; say something here",
    IGNORE.replace("frozen", " \\t\\n"): "at `$.ignore[0].reason`: this is blank; say something here",
    IGNORE.replace("JN102", "JN999"): "at `$.ignore[0].rule`: 'JN999' is no code of a rule; did you mean 'JN9'?",
    "ignore = 3": "at `$.ignore`: expected `array`, got `int`; correct it",
    "ignore = [3]": "at `$.ignore[0]`: expected `object`, got `int`; correct it",
    'required-version = "9"': "at `$.required-version`: '9' specifies no versions; write it as '>=1.0,<2'",
    f'required-version = ">={"9" * 5000}"': "specifies no versions; write it as '>=1.0,<2'",
    "required-version = 1": "at `$.required-version`: expected `str`, got `int`; correct it",
}


@pytest.mark.parametrize(
    ("content", "sentence"), MISTAKES.items(), ids=[" ".join(text.split())[:60] for text in MISTAKES]
)
def test_a_mistake_is_told_with_file_place_and_remedy(tmp_path: Path, content, sentence) -> None:
    file = tmp_path / "jaynes.toml"
    file.write_text(content)
    with pytest.raises(UsageError) as told:
        effective_of(Options(), {}, tmp_path)
    assert sentence in str(told.value)
    assert str(told.value).startswith(f"{str(file)!r}, at `$")
    assert str(told.value).isprintable()


def test_the_last_day_of_an_ignore_may_be_written_as_a_date_or_as_a_text(tmp_path: Path) -> None:
    (tmp_path / "jaynes.toml").write_text(f'{IGNORE}until = 2027-03-31\n{IGNORE}until = "2027-03-31"\n')
    assert {ignore.until for ignore in effective_of(Options(), {}, tmp_path).policy.ignores} == {date(2027, 3, 31)}


# ---- the version that a file asks for


@pytest.mark.parametrize("required", ["", ">=0.1", ">=1.0,<2", "==1.4.*", ">=1.5.dev0"])
def test_a_version_within_the_range_may_read_it(required) -> None:
    check_version(required, "1.5.0rc1" if "dev" in required else "1.4.2", "here")


@pytest.mark.parametrize("required", [">=2", "<1.4", "==1.4.1", "!=1.4.2"])
def test_a_version_outside_of_the_range_is_refused(required) -> None:
    with pytest.raises(UsageError, match=r"here: jaynes '.*' is required and this is 1\.4\.2; install such a one"):
        check_version(required, "1.4.2", "here")


def test_a_file_for_another_version_is_told_as_that_before_its_unknown_keys_are(tmp_path: Path) -> None:
    (tmp_path / "jaynes.toml").write_text('required-version = ">=99"\nkey-of-the-future = 1\n')
    with pytest.raises(UsageError, match=f"jaynes '>=99' is required and this is {version('jaynes-audit')}"):
        effective_of(Options(), {}, tmp_path)


def test_no_file_however_damaged_is_more_than_a_sentence() -> None:
    ends, faults = fuzzing.survive(FUZZ, inputs=1_000, seed=6)
    assert not faults, faults[0].trace
    assert ends["accepted"] > 100
    assert ends["UsageError"] > 500
