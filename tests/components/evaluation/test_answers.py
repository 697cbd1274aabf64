import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.benchmark.metrics.answers import exact_match, normalize, token_f1


@given(st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xD7A3)))
def test_composed_and_decomposed_hangul_are_the_same_answer(answer: str) -> None:
    assert exact_match(unicodedata.normalize("NFD", answer), answer) == 1


@given(st.text())
def test_normalizing_twice_changes_nothing_and_every_answer_matches_itself(answer: str) -> None:
    assert normalize(normalize(answer)) == normalize(answer)
    assert exact_match(answer, answer) == token_f1(answer, answer) == 1


@given(st.text(), st.text())
def test_f1_is_symmetric_and_between_0_and_1(answer: str, expected: str) -> None:
    assert 0 <= token_f1(answer, expected) <= 1
    assert token_f1(answer, expected) == token_f1(expected, answer)


@pytest.mark.parametrize(
    ("answer", "expected", "match"),
    [
        ('"MIT".', "mit", 1),
        ("  BSD-3-Clause\n", "BSD-3-Clause", 1),
        ("BSD 3 Clause", "BSD-3-Clause", 0),
        (">=3.10", "3.10", 0),
        ("<3.10", ">3.10", 0),
        ("the MIT", "MIT", 0),
        ("형태소 분석。", "형태소  분석", 1),
        ("형태소를 분석", "형태소 분석", 0),
        ("", "MIT", 0),
    ],
)
def test_what_counts_as_the_same(answer: str, expected: str, match: int) -> None:
    assert exact_match(answer, expected) == match


def test_f1_weighs_the_words_in_common() -> None:
    assert token_f1("renders big templates", "renders templates") == pytest.approx(0.8)
    assert token_f1("a a", "a") == pytest.approx(2 / 3)
    assert token_f1("형태소 분석기", "형태소 분석") == pytest.approx(0.5)
