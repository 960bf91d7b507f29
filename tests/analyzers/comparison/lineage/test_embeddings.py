import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from jaynes_audit.analyzers.checkpoints.places import Place, Source
from jaynes_audit.analyzers.checkpoints.vocabulary import NoVocabulary, Vocabulary
from jaynes_audit.analyzers.checkpoints.windows import Io, Sources
from jaynes_audit.analyzers.comparison.lineage import embeddings
from jaynes_audit.analyzers.comparison.lineage.embeddings import EmbeddingTable, embedding_scores, embedding_table
from jaynes_audit.analyzers.comparison.lineage.score import Score
from jaynes_audit.analyzers.distributions.moments import NotFitted
from jaynes_audit.analyzers.dtypes import Dtype
from tests.support.checkpoints import checkpoint, stored

Table = npt.NDArray[np.floating]
TOKENS = 400
NAME = "model.embed_tokens.weight"


class CountingSources(Sources):
    """Sources that count the bytes they are asked for."""

    def __init__(self) -> None:
        super().__init__(Io.PREAD)
        self.bytes_read = 0

    def of_file(self, file: Place) -> Source:
        return CountingSource(super().of_file(file), self)


class CountingSource:
    def __init__(self, source: Source, sources: CountingSources) -> None:
        self._source, self._sources = source, sources

    def read(self, start: int, end: int) -> memoryview:
        self._sources.bytes_read += end - start
        return self._source.read(start, end)

    def ahead(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._source.ahead(ranges)

    def close(self) -> None:
        self._source.close()


def gaussian(seed: int, rows: int = TOKENS, columns: int = 32) -> Table:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def rotated(table: Table) -> Table:
    rotation, _ = np.linalg.qr(np.random.default_rng(99).standard_normal((table.shape[1], table.shape[1])))
    return table @ rotation


def words(rows: int = TOKENS) -> dict[str, int]:
    return {f"Ġword{row}": row for row in range(rows)}


def table(
    folder: Path,
    of: Table,
    vocab: Mapping[str, int] | None = None,
    dtype: Dtype = Dtype.F32,
    sources: Sources | None = None,
) -> EmbeddingTable:
    folder.mkdir()
    if vocab is not None:
        (folder / "vocab.json").write_text(json.dumps(vocab))
    found = embedding_table(checkpoint(folder, {NAME: stored(of, dtype)}), sources or Sources(Io.PREAD))
    assert isinstance(found, EmbeddingTable)
    return found


def scores(a: EmbeddingTable, b: EmbeddingTable) -> tuple[Score, Score]:
    found = embedding_scores(a, b)
    assert not isinstance(found, NotFitted), found
    neighbours, cka = found
    assert (neighbours.name, cka.name) == ("embedding neighbours", "embedding CKA")
    return neighbours, cka


def why_not(a: EmbeddingTable, b: EmbeddingTable) -> str:
    found = embedding_scores(a, b)
    assert isinstance(found, NotFitted)
    return found.reason


def test_a_table_whose_tokens_have_other_numbers_is_the_same_table(tmp_path: Path) -> None:
    of = gaussian(0)
    order = np.random.default_rng(1).permutation(TOKENS)
    renumbered = {f"Ġword{row}": place for place, row in enumerate(order)}
    neighbours, cka = scores(table(tmp_path / "a", of, words()), table(tmp_path / "b", of[order], renumbered))
    assert neighbours.value == 1
    assert cka.value == pytest.approx(1, abs=1e-5)
    assert "400 of 400 shared tokens" in neighbours.compared
    assert f"k = 10, chance {10 / 399:.4f}" in neighbours.compared


def test_tokenizers_of_two_kinds_share_the_tokens_that_stand_for_the_same_text(tmp_path: Path) -> None:
    of = gaussian(2)
    pieces = {f"▁word{row}": row for row in range(300)} | {f"Ġ{row}": row for row in range(300, 400)}
    a = table(tmp_path / "a", of, words())
    table(tmp_path / "b", of)
    (tmp_path / "b" / "tokenizer.json").write_text(json.dumps({"model": {"vocab": pieces}}), encoding="utf-8")
    b = embedding_table(checkpoint(tmp_path / "b", {NAME: stored(of)}), Sources(Io.PREAD))
    assert isinstance(b, EmbeddingTable)
    assert "300 of 300 shared tokens" in scores(a, b)[0].compared


def test_a_rotated_table_in_another_format_and_width_scores_one(tmp_path: Path) -> None:
    of = gaussian(3)
    wider = np.hstack([rotated(of), np.zeros((TOKENS, 9))])
    neighbours, cka = scores(table(tmp_path / "a", of), table(tmp_path / "b", wider, dtype=Dtype.BF16))
    assert neighbours.value > 0.97
    assert cka.value > 0.999
    assert "rows, paired by number" in neighbours.compared


def test_independent_tables_score_what_their_nulls_do(tmp_path: Path) -> None:
    for score in scores(table(tmp_path / "a", gaussian(4)), table(tmp_path / "b", gaussian(5, columns=48))):
        for null in (score.unrelated, score.twins):
            spread = null.high - null.middle
            assert abs(score.value - null.middle) < 3 * spread
            assert null.draws >= 20


def test_a_shared_order_of_the_tokens_is_told_from_a_shared_meaning(tmp_path: Path) -> None:
    frequency = 3 * np.sort(gaussian(6, columns=1), axis=0)
    a, b = gaussian(7) + frequency, gaussian(8) + frequency
    neighbours, cka = scores(table(tmp_path / "a", a), table(tmp_path / "b", b))
    assert cka.value > 0.95
    assert cka.unrelated.middle > 0.7, "the matched null explains it"
    assert cka.twins.high < 0.1
    assert "by number" in cka.unrelated.what
    assert neighbours.unrelated.middle > 2 * neighbours.twins.middle


def test_rows_of_no_use_are_left_out(tmp_path: Path) -> None:
    of = gaussian(9)
    of[3] = 0
    of[5, 1] = np.nan
    of[7, 0] = np.inf
    of[[10, 20, 30]] = of[40]  # as rows that nobody trained are
    neighbours, _ = scores(table(tmp_path / "a", of), table(tmp_path / "b", gaussian(10)))
    assert "393 of 400 rows" in neighbours.compared


def test_tokens_beyond_the_table_and_rows_of_two_tokens_are_no_pairs(tmp_path: Path) -> None:
    twice = words() | {"Ġagain": 0, "Ġbeyond": TOKENS}
    neighbours, _ = scores(table(tmp_path / "a", gaussian(11), twice), table(tmp_path / "b", gaussian(12), twice))
    assert "400 of 400 shared tokens" in neighbours.compared


def test_no_row_is_read_but_those_of_the_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "MOST_TOKENS", 250)
    sources = CountingSources()
    of = gaussian(13, rows=5000)
    a, b = (table(tmp_path / name, of, words(5000), sources=sources) for name in "ab")
    neighbours, _ = scores(a, b)
    assert "250 of 5,000" in neighbours.compared
    assert sources.bytes_read == 2 * 250 * 32 * 4


def test_the_score_is_the_same_every_time(tmp_path: Path) -> None:
    a, b = table(tmp_path / "a", gaussian(14)), table(tmp_path / "b", gaussian(15))
    assert scores(a, b) == scores(a, b)


@pytest.mark.parametrize("dtype", [Dtype.F64, Dtype.F16, Dtype.F8_E4M3])
def test_every_format_is_read(tmp_path: Path, dtype: Dtype) -> None:
    of = gaussian(16)
    neighbours, cka = scores(table(tmp_path / "a", of, dtype=dtype), table(tmp_path / "b", of))
    assert neighbours.value > 0.6
    assert cka.value > 0.98


@pytest.mark.parametrize("scale", [1e300, 1e-300])
def test_no_magnitude_overflows(tmp_path: Path, scale: float) -> None:
    of = gaussian(17)
    neighbours, cka = scores(table(tmp_path / "a", of * scale, dtype=Dtype.F64), table(tmp_path / "b", of))
    assert (neighbours.value, cka.value) == (pytest.approx(1, abs=1e-3), pytest.approx(1, abs=1e-5))


# ---- what cannot be scored


def test_tables_of_unknown_tokens_and_unequal_length_cannot_be_paired(tmp_path: Path) -> None:
    said = why_not(table(tmp_path / "a", gaussian(18)), table(tmp_path / "b", gaussian(19, rows=401), words(401)))
    assert "400 rows cannot be paired with 401" in said
    assert "beside its weights" in said


def test_too_few_shared_tokens_say_nothing(tmp_path: Path) -> None:
    others = {f"other{row}": row for row in range(TOKENS)}
    said = why_not(table(tmp_path / "a", gaussian(20), words()), table(tmp_path / "b", gaussian(21), others))
    assert said == "the two tables share 0 tokens; 200 are needed"


def test_an_untrained_table_of_ones_says_nothing(tmp_path: Path) -> None:
    said = why_not(table(tmp_path / "a", np.ones((TOKENS, 8))), table(tmp_path / "b", gaussian(22)))
    assert "only 0 of the tokens" in said


def test_a_table_that_was_cut_off_is_not_scored(tmp_path: Path) -> None:
    a, b = table(tmp_path / "a", gaussian(23)), table(tmp_path / "b", gaussian(24))
    with (tmp_path / "b" / "model-0.safetensors").open("r+b") as stream:
        stream.truncate(20_000)
    assert "could not be read" in why_not(a, b)


def test_the_table_of_words_is_chosen_among_several(tmp_path: Path) -> None:
    found = embedding_table(
        checkpoint(
            tmp_path,
            {
                "bert.embeddings.token_type_embeddings.weight": stored(gaussian(25, rows=2)),
                "bert.embeddings.word_embeddings.weight": stored(gaussian(26)),
                "bert.embeddings.position_embeddings.weight": stored(gaussian(27, rows=512)),
            },
        ),
        Sources(Io.PREAD),
    )
    assert isinstance(found, EmbeddingTable)
    assert found.layer.name == "bert.embeddings.word_embeddings.weight"
    assert isinstance(found.vocabulary, NoVocabulary)


def test_a_model_without_a_table_says_so(tmp_path: Path) -> None:
    found = embedding_table(checkpoint(tmp_path, {"fc.weight": stored(gaussian(28))}), Sources(Io.PREAD))
    assert isinstance(found, NotFitted)


def test_tokens_may_be_given_by_whoever_knows_them(tmp_path: Path) -> None:
    bare = table(tmp_path / "a", gaussian(29))
    known = EmbeddingTable(
        layer=bare.layer,
        vocabulary=Vocabulary(file="", rows={str(row).encode(): row for row in range(TOKENS)}),
        sources=bare.sources,
    )
    assert scores(known, known)[0].value == 1
