import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.benchmark.metrics.summaries import matching_f1, rouge
from components.evaluation.benchmark.metrics.words import clauses, sentences, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("서울에서는 눈이 온다", ["서울", "에서는", "눈이", "온다"]),
        ("API를 3개의", ["api", "를", "3", "개의"]),
        ("It's 3.5, isn't it?", ["it's", "3.5", "isn't", "it"]),
    ],
)
def test_words_of_both_languages(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_full_stops_of_abbreviations_and_numbers_end_no_sentence() -> None:
    assert sentences("Dr. Kim paid $3.50. He left.") == ["Dr. Kim paid $3.50.", "He left."]
    assert sentences("값은 3.5만 원이다. 싸다!") == ["값은 3.5만 원이다.", "싸다!"]


def test_clauses_are_the_claims_of_a_sentence() -> None:
    assert clauses("The tower is 330 m tall, and it was built in 1889; it stands in Paris.") == [
        "The tower is 330 m tall",
        "and it was built in 1889",
        "it stands in Paris.",
    ]
    assert clauses("이 패키지는 MIT 라이선스이며 파이썬 3.10이 필요하지만 의존성은 없다.") == [
        "이 패키지는 MIT 라이선스이며",
        "파이썬 3.10이 필요하지만",
        "의존성은 없다.",
    ]
    assert clauses("Bread, butter and cheese.") == ["Bread, butter and cheese."]
    assert clauses(" ... \n!!") == []


@given(st.text())
def test_no_text_breaks_it_and_no_word_is_lost(text: str) -> None:
    assert sorted("".join(words(" ".join(clauses(text))))) == sorted("".join(words(" ".join(sentences(text)))))


def test_rouge_reads_korean() -> None:
    same = rouge("서울에서 눈이 왔다", ["서울에서 눈이 왔다"])
    other_particle = rouge("서울에도 눈이 왔다", ["서울에서 눈이 왔다"])
    assert set(same.values()) == {1.0}
    assert 0.5 < other_particle["rouge1"] < 1
    assert rouge("부산", ["서울에서 눈이 왔다"])["rouge1"] == 0


def test_rouge_takes_the_nearest_reference() -> None:
    assert rouge("the cat sat", ["a dog ran", "the cat sat"])["rougeL"] == 1
    assert rouge("the cat", ["the cat sat"])["rouge1"] == pytest.approx(0.8)
    assert rouge("", ["the cat sat"])["rouge1"] == 0


def test_tokens_are_matched_with_the_most_similar_ones() -> None:
    east, north = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    assert matching_f1(np.stack([east, north]), np.stack([north, east])) == 1
    assert matching_f1(np.stack([east, east]), np.stack([east, north])) == pytest.approx(2 * 1 * 0.5 / 1.5)
    assert matching_f1(east[None], north[None]) == 0
    assert matching_f1(np.empty((0, 2), np.float32), east[None]) == 0
