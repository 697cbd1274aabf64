import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.evaluation.benchmark.metrics.arithmetic import final_number, read_chain, read_number
from components.evaluation.benchmark.metrics.estimators import pass_at_k


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("48/2 = 24\n#### 72", 72),
        ("So he pays $1,250.50.", Fraction("1250.5")),
        ("The answer is \\boxed{3/4}.", Fraction(3, 4)),
        ("The answer is -3", -3),
        ("It was 5. The answer is 3 + 4 = 7", 7),
        ("정답은 3만 5천 원입니다.", 35_000),
        ("답: 1억 2,000만 원", 120_000_000),
        ("답은 20%입니다", Fraction(1, 5)),
        ("2023-01", 1),
        ("no number", None),
        ("9" * 10_000, None),
        ("1/0", None),
    ],
)
def test_the_final_number_is_found(text: str, number: Fraction | int | None) -> None:
    assert final_number(text) == number


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("3 apples + 4 apples = 7 apples", [True]),
        ("5 + 5 = 10 - 1 = 9", [False, True]),
        ("2 + 3 × 4 = 14", [True]),
        ("(2 + 3) * 4 = 20", [True]),
        ("12 - (-3) = 15", [True]),
        ("- 3 + 4 = 7", [True]),
        ("1) 10 / 3 = 3.33", [True]),
        ("10 / 3 = 3", [False]),
        ("10 / 3 = 3.34", [False]),
        ("20% of 50: 20% × 50 = 10", [True]),
        ("사과 3개 + 배 4개 = 8개입니다.", [False]),
        ("3만 5천 원 + 2천 원 = 3만 7천 원", [True]),
        ("x = 5, y = x + 1", []),
        ("if a == b: c = 1/0 = 2", []),
    ],
)
def test_every_equation_between_numbers_is_checked(text: str, holds: list[bool]) -> None:
    assert [statement.holds for statement in read_chain(text).statements] == holds


@given(st.integers(-999, 999), st.integers(1, 999), st.sampled_from("+-*/"))
def test_what_is_true_is_called_true_and_what_is_off_by_one_false(left: int, right: int, operator: str) -> None:
    exact = {"+": left + right, "-": left - right, "*": left * right, "/": Fraction(left, right)}[operator]
    for off, holds in ((0, True), (1, False)):
        said = f"({left} {operator} {right}) = {exact + off}"
        assert [statement.holds for statement in read_chain(said).statements] == [holds]


def test_an_answer_may_contradict_its_own_last_step() -> None:
    assert read_chain("3 + 4 = 7\nThe answer is 8.").contradicts_itself
    assert not read_chain("3 + 4 = 7\n정답은 7").contradicts_itself
    assert not read_chain("3 + 4 = 7. I bought 2 bags.").contradicts_itself, "the last number is not announced"


@given(st.text(alphabet="0123456789+-*/=().,%만천 x가\n", max_size=400))
def test_no_text_breaks_it(text: str) -> None:
    chain = read_chain(text)
    assert chain.false_steps <= len(chain.statements)
    read_number(text)


@pytest.mark.parametrize("piece", ["1+", "( ", "(1", "= 1 + ", "1 만", "- ", "가 1 + ", "1, "])
def test_long_text_takes_no_time(piece: str) -> None:
    began = time.perf_counter()
    read_chain(piece * 50_000)
    assert time.perf_counter() - began < 2


def test_pass_at_k_is_the_chance_that_one_of_k_passes() -> None:
    assert pass_at_k(10, 0, 5) == 0
    assert pass_at_k(10, 10, 1) == 1
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(5, 2, 2) == pytest.approx(1 - 3 / 10)
    with pytest.raises(ValueError, match="k must be"):
        pass_at_k(2, 1, 3)
