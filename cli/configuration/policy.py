"""Configuration -> the policy of the rules. What only the rules know is checked here: codes, thresholds, formats."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping

from jaynes_audit.analyzers.checkpoints.quoted import quoted
from jaynes_audit.analyzers.dtypes import Dtype
from jaynes_audit.analyzers.errors import UsageError
from jaynes_audit.analyzers.rules import FILE_RULES, PICKLE_CHECKPOINT, RULES, UNSUPPORTED_DTYPE, Level
from jaynes_audit.analyzers.rules.policy import Expectation, Ignore, Override, Policy
from jaynes_audit.analyzers.rules.thresholds import USUAL_THRESHOLDS, every_threshold
from jaynes_audit.cli.configuration.file import Configuration
from jaynes_audit.cli.configuration.settings import AllowPickle
from jaynes_audit.cli.configuration.suggestion import suggestion

RULE_OF_CODE = {rule.code: rule for rule in RULES}
PREFIXES = frozenset(code[:length] for code in RULE_OF_CODE for length in range(len("JN") + 1, len(code)))
"""What the codes of several rules begin with."""

REFUSALS = frozenset(rule.code for rule in FILE_RULES) - {PICKLE_CHECKPOINT.code, UNSUPPORTED_DTYPE.code}
"""Codes of the rules that say why a file was not read, without which a broken checkpoint would pass."""

THRESHOLD_NAMES = tuple(threshold.name for threshold in every_threshold())

DTYPES: Mapping[str, Dtype] = {
    **{dtype.value: dtype for dtype in Dtype},
    **{dtype.value.lower(): dtype for dtype in Dtype},
    "bfloat16": Dtype.BF16,
    "fp16": Dtype.F16,
    "float16": Dtype.F16,
    "fp32": Dtype.F32,
    "float32": Dtype.F32,
    "fp64": Dtype.F64,
    "float64": Dtype.F64,
}
"""Number formats by the names that people use for them."""

Place = Callable[[str], str]
"""Says in words where a path such as `$.ignore[0]` was written."""


def policy_of(configuration: Configuration, place: Place, *, file: str) -> Policy:
    """Make the policy; `file` is what the configuration file is called. Raises UsageError for names that do not exist.

    `select` replaces the rules that are on by default, but for refusals, which only `ignore-rule` turns off. Prefixes
    never turn on what is off by default; whole codes do.
    A pickle that is not allowed is an error, whatever else is said of its rule.
    """
    on = _rules_on(configuration, place)
    levels = _levels(configuration.severity, place)
    final: frozenset[str] = frozenset()
    if configuration.allow_pickle is AllowPickle.NEVER:
        on |= {PICKLE_CHECKPOINT.code}
        levels[PICKLE_CHECKPOINT.code] = Level.ERROR
        final = frozenset({PICKLE_CHECKPOINT.code})
    return Policy(
        on=on,
        final=final,
        levels=levels,
        thresholds=USUAL_THRESHOLDS.with_values(_thresholds(configuration.thresholds, place("$.thresholds"))),
        overrides=tuple(_overrides(configuration, place)),
        expect=Expectation(dtype=_dtype(configuration.expect.dtype, place), changed=configuration.expect.changed),
        ignores=tuple(_ignores(configuration, place, file)),
    )


def _rules_on(configuration: Configuration, place: Place) -> frozenset[str]:
    usual = {rule.code for rule in RULES if rule.is_usual or (rule.is_preview and configuration.preview)}
    chosen = _checked(configuration.select, place, "$.select")
    added = _checked(configuration.extend_select, place, "$.extend-select")
    removed = _checked(configuration.ignore_rule, place, "$.ignore-rule")
    named = RULE_OF_CODE.keys() & {*chosen, *added}
    by_prefix = {code for code in usual if not chosen or code.startswith((*chosen, *added))}
    return frozenset(code for code in named | by_prefix | REFUSALS if not code.startswith(removed))


def checked_selectors(selectors: Iterable[str], option: str) -> tuple[str, ...]:
    """Give codes of rules and prefixes that were given with an option. Raises UsageError for what means no rule."""
    named = [selector for text in selectors for selector in text.split(",")]
    return _checked(named, lambda _: option, "")


def _checked(selectors: Iterable[str], place: Place, path: str) -> tuple[str, ...]:
    """The codes and prefixes, each of which must mean a rule."""
    checked = []
    for number, selector in enumerate(selectors):
        _check_selector(selector, f"{path}[{number}]", place)
        checked.append(selector)
    return tuple(checked)


def _check_selector(selector: str, path: str, place: Place) -> None:
    if selector in RULE_OF_CODE or selector in PREFIXES:
        return
    code = next((rule.code for rule in RULES if rule.name == selector), "")
    hint = f"its code is {code!r}" if code else suggestion(selector, {*RULE_OF_CODE, *PREFIXES})
    raise UsageError(f"{place(path)}: {quoted(selector)} is no code of a rule; {hint}")


def _levels(severity: Mapping[str, object], place: Place) -> dict[str, Level]:
    levels = {}
    for code, level in severity.items():
        if code not in RULE_OF_CODE:
            hint = suggestion(code, RULE_OF_CODE)
            raise UsageError(f"{place('$.severity')}: {quoted(code)} is no code of a rule; {hint}")
        if not isinstance(level, str) or level not in list(Level):
            hint = f"choose from {', '.join(Level)}"
            raise UsageError(f"{place(f'$.severity.{code}')}: a rule has no such level; {hint}")
        levels[code] = Level(level)
    return levels


def _thresholds(values: Mapping[str, object], place: str) -> dict[str, float]:
    checked = {}
    for name, value in values.items():
        if name not in THRESHOLD_NAMES:
            raise UsageError(f"{place}: there is no threshold {quoted(name)}; {suggestion(name, THRESHOLD_NAMES)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
            raise UsageError(f"{place}: {name!r} must be a finite number of at least 0; correct it")
        checked[name] = float(value)
    return checked


def _overrides(configuration: Configuration, place: Place) -> Iterator[Override]:
    for number, override in enumerate(configuration.override):
        thresholds = _thresholds(override.thresholds, place(f"$.override[{number}].thresholds"))
        yield Override(tensor=override.tensor, thresholds=thresholds)


def _dtype(name: str, place: Place) -> str:
    if name and name not in DTYPES:
        raise UsageError(f"{place('$.expect.dtype')}: {quoted(name)} is no number format; {suggestion(name, DTYPES)}")
    return DTYPES[name].value if name else ""


def _ignores(configuration: Configuration, place: Place, file: str) -> Iterator[Ignore]:
    for number, ignored in enumerate(configuration.ignore):
        _check_selector(ignored.rule, f"$.ignore[{number}].rule", place)
        yield Ignore(
            rule=ignored.rule,
            tensor=ignored.tensor,
            reason=ignored.reason,
            until=ignored.until,
            where=f"{file}, ignore {number + 1}",
        )
