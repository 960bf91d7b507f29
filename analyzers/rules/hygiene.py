"""Rules about the audit itself: what it passed over, and decisions that are out of date."""

from jaynes_audit.analyzers.rules.rule import Level, Precision, Rule

UNUSED_IGNORE = Rule(
    code="JN901",
    name="unused-ignore",
    level=Level.WARNING,
    precision=Precision.VERY_HIGH,
    documentation="""\
An ignore in the configuration covers no finding.

Why it matters: it may cover the next one, which nobody has looked at.
What to do: remove it.
Example: jaynes.toml, ignore 2: it covers no finding""",
)

EXPIRED_IGNORE = Rule(
    code="JN902",
    name="expired-ignore",
    level=Level.ERROR,
    precision=Precision.VERY_HIGH,
    documentation="""\
The last day of an ignore has passed, and it covers a finding no longer.

Why it matters: somebody set the day so that the matter be looked at again.
What to do: mend what it covers, or give it another day with a reason.
Example: jaynes.toml, ignore 1: it held until 2026-03-31""",
)

STALE_BASELINE = Rule(
    code="JN903",
    name="stale-baseline",
    level=Level.WARNING,
    precision=Precision.VERY_HIGH,
    needs_baseline=True,
    documentation="""\
The baseline was written by a version of jaynes that measured in a slightly other way.

Why it matters: trifles that changed between the two ways may be taken for a change of the weights. A baseline of quite
another way is not compared at all: that is a wrong use of the command.
What to do: write the baseline again from the checkpoint that it was made of.
Example: baselines/model.jaynes.jsonl: it has statistics of version 1.0, and this is version 1.1""",
)

INCOMPLETE_AUDIT = Rule(
    code="JN904",
    name="incomplete-audit",
    level=Level.WARNING,
    precision=Precision.VERY_HIGH,
    documentation="""\
Not every weight of the checkpoint was read.

It is a note where no more was left out than --sample, --headers-only, --layers or --exclude asked for.

Why it matters: nothing is known of the rest, which may be broken.
What to do: the report says of each tensor that was left out why; most often a format that is not supported.
Example: export/: 3 of 291 tensors were not analysed""",
)

HYGIENE_RULES: tuple[Rule, ...] = (UNUSED_IGNORE, EXPIRED_IGNORE, STALE_BASELINE, INCOMPLETE_AUDIT)
