"""Compare the pairs of models that make_families.py made, and say how often the verdict is right.

    python benchmarks/comparing_families.py FOLDER [--family NAME ...]

Prints Markdown: the share of right verdicts by what happened to the model, every pair with a wrong one, and for each
score of lineage the range it has among related and among unrelated pairs, with how many pairs lie where both occur.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from jaynes_audit.analyzers.comparison.comparison import compare
from jaynes_audit.analyzers.comparison.lineage.score import Score
from jaynes_audit.analyzers.comparison.operand import open_operands
from jaynes_audit.analyzers.comparison.verdict import Kinship

TWINS = "twins"
"""How the words for a pair of twins begin: unrelated networks of one recipe, the hardest to tell from related ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two models and what they are to one another; `kinship` lists every verdict that would be right."""

    name: str
    family: str
    base: str
    path: str
    kinship: tuple[Kinship, ...]
    words: str

    @property
    def is_related(self) -> bool:
        """Whether one of the two comes from the other, or both from a third."""
        return Kinship.UNRELATED not in self.kinship


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was said of a pair."""

    pair: Pair
    kinship: Kinship
    sentence: str
    scores: tuple[Score, ...]

    @property
    def is_right(self) -> bool:
        """Whether it is what the recipe says."""
        return self.kinship in self.pair.kinship


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Pairs of which one score should tell whether they are related."""

    name: str
    values: tuple[float, ...]


def main() -> None:
    """Compare, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--family", action="append", help="one family only; may be given more than once")
    chosen = parser.parse_args()
    pairs = [pair for pair in pairs_of(chosen.folder) if not chosen.family or pair.family in chosen.family]
    start = time.perf_counter()
    judged = [judge(pair, chosen.folder) for pair in pairs]
    seconds = time.perf_counter() - start
    print_verdicts(judged)
    print_scores(judged)
    right = sum(each.is_right for each in judged)
    print(f"\n{right} of {len(judged)} verdicts are right; {seconds / max(1, len(judged)):.1f} s a pair")


def pairs_of(folder: Path) -> Iterator[Pair]:
    """What families.json lists."""
    for entry in json.loads((folder / "families.json").read_text(encoding="utf-8")):
        yield Pair(**{**entry, "kinship": tuple(map(Kinship, entry["kinship"]))})


def judge(pair: Pair, folder: Path) -> Judged:
    """Compare two models."""
    operands = [operand for path in (pair.base, pair.path) for operand in open_operands(str(folder / path))]
    (comparison,) = compare(operands)
    return Judged(
        pair=pair,
        kinship=comparison.verdict.kinship,
        sentence=comparison.verdict.sentence,
        scores=tuple(score for score in comparison.lineage if isinstance(score, Score)),
    )


def print_verdicts(judged: Sequence[Judged]) -> None:
    """Print how many verdicts are right, by what happened to the model, and each that is not."""
    by_words: dict[tuple[str, tuple[Kinship, ...]], list[Judged]] = defaultdict(list)
    for each in judged:
        by_words[each.pair.words, each.pair.kinship].append(each)
    print("| what B is to A | expected | said | right |")
    print("| --- | --- | --- | ---: |")
    for (words, kinship), group in by_words.items():
        said = ", ".join(sorted({str(each.kinship) for each in group}))
        right = sum(each.is_right for each in group)
        print(f"| {words} | {' or '.join(kinship)} | {said} | {right} of {len(group)} |")
    for each in judged:
        if not each.is_right:
            print(f"\nWrong: {each.pair.family}, {each.pair.name}: {each.sentence}")


def print_scores(judged: Sequence[Judged]) -> None:
    """Print the range of each score in each group, and how many pairs lie where related and unrelated ones both do."""
    print("\n| score | group | pairs | least | median | greatest | in the overlap |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for name in dict.fromkeys(score.name for each in judged for score in each.scores):
        groups = [
            _group(name, "related", (each for each in judged if each.pair.is_related)),
            _group(name, "unrelated, one recipe", (each for each in judged if _are_twins(each))),
            _group(
                name, "unrelated, other", (each for each in judged if not each.pair.is_related and not _are_twins(each))
            ),
        ]
        related, *unrelated = groups
        low = min(related.values, default=float("inf"))
        high = max((value for group in unrelated for value in group.values), default=float("-inf"))
        for group in groups:
            if group.values:
                least, middle, greatest = min(group.values), median(group.values), max(group.values)
                shared = sum(low <= value <= high for value in group.values)
                row = f"{len(group.values)} | {least:.3f} | {middle:.3f} | {greatest:.3f} | {shared}"
                print(f"| {name} | {group.name} | {row} |")


def _are_twins(each: Judged) -> bool:
    return each.pair.words.startswith(TWINS)


def _group(score: str, name: str, judged: Iterable[Judged]) -> Group:
    return Group(name=name, values=tuple(each.value for one in judged for each in one.scores if each.name == score))


if __name__ == "__main__":
    main()
