"""How a baseline is tried as one side of a comparison: damaged as for its reader, opened, compared, and recorded.

For a long run: `python -m tests.support.fuzzing baseline_operand --inputs 1000000 --seed 7`.
"""

import zlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from jaynes_audit.analyzers.baseline.operand import kept_model, open_operands
from jaynes_audit.analyzers.comparison.comparison import Manner, compare
from jaynes_audit.analyzers.comparison.findings import findings_of
from jaynes_audit.analyzers.comparison.operand import Operand
from jaynes_audit.analyzers.comparison.record import ComparisonRecord, comparison_record
from tests.support import baseline_fuzz, report_fuzz
from tests.support.baselines import baseline_at, network
from tests.support.checkpoints import stored, write_file
from tests.support.fuzzing import Fuzz

LONGEST_SENTENCE = 4000  # some names of 80 characters, and the words around them
OTHER_SIDE_IN = 4  # one input in so many is compared with something else than a sound baseline


@cache
def _others() -> tuple[Operand, ...]:
    """What the damaged baseline is compared with: a sound one of other weights, and a report."""
    with TemporaryDirectory() as folder:
        weights, report = Path(folder, "model.safetensors"), Path(folder, "report.json")
        write_file(weights, {name: stored(each) for name, each in network(blocks=baseline_fuzz.BLOCKS, seed=7).items()})
        report.write_bytes(report_fuzz.corpus()[0])
        sound = Operand(target="sound", known=kept_model(baseline_at(weights)))
        (reported,) = open_operands(str(report))
    return sound, reported


def read(content: bytes) -> None:
    """Open a damaged baseline, compare it with something sound on either side, and record what was found."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "damaged.jaynes.jsonl")
        path.write_bytes(content)
        (operand,) = open_operands(str(path))
    chance = zlib.crc32(content)
    other = _others()[chance % OTHER_SIDE_IN == 0]
    pair = [operand, other] if chance & 1 << 20 else [other, operand]
    for comparison in compare(pair, Manner(jobs=1)):
        record = comparison_record(comparison, findings_of(comparison))
        assert msgspec.json.decode(msgspec.json.encode(record), type=ComparisonRecord) == record
        for sentence in (record.verdict.sentence, *record.verdict.figures, *record.remarks):
            assert sentence.isprintable()
            assert 0 < len(sentence) < LONGEST_SENTENCE


FUZZ = Fuzz(corpus=baseline_fuzz.corpus, read=read, damages=baseline_fuzz.FUZZ.damages)
