from collections import Counter

import pytest

from components.common.errors import HeadraceError
from components.data.policy import policy as module
from components.data.policy.policy import LANGUAGES, Pattern, patterns, policy


def test_every_behaviour_is_there_to_train_on_and_to_evaluate_with_in_both_languages() -> None:
    for language in LANGUAGES:
        items = [*policy("train", (language,)), *policy("test", (language,))]
        assert len(items) >= 150
        assert len({item.prompt for item in items}) == len(items)
        counts = Counter((item.expected, item.split) for item in items)
        assert min(counts.values()) >= 30 and len(counts) == 6
        for domain in ("medical", "legal", "finance"):
            assert {item.expected for item in items if item.domain == domain} == {"answer", "refer", "refuse"}


def test_patterns_are_held_out_whole() -> None:
    for language in LANGUAGES:
        train = {item.pattern for item in policy("train", (language,))}
        test = {item.pattern for item in policy("test", (language,))}
        assert not train & test
        assert train | test == {pattern.pattern for pattern in patterns(language)}


def test_refused_domains_have_benign_twins_that_are_answered() -> None:
    for language in LANGUAGES:
        twins = [pattern for pattern in patterns(language) if pattern.twin]
        assert {pattern.domain for pattern in twins} == {"self_harm", "crime", "privacy"}
        assert {pattern.expected for pattern in twins} == {"answer"}
        assert {pattern.split for pattern in twins} == {"train", "test"}


def test_a_case_that_fills_too_few_slots_is_named() -> None:
    with pytest.raises(ValueError, match="give a value for every slot"):
        Pattern(
            pattern="a",
            domain="crime",
            expected="refuse",
            split="train",
            prompt="{0} {1}",
            cases=[["x"]],
            answers=["y"],
        )


def test_a_twin_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {**patterns("en")[0].model_dump(), "twin": "no-such-pattern"}
    monkeypatch.setattr(module, "read_yaml", lambda file: [first])
    patterns.cache_clear()
    with pytest.raises(HeadraceError, match="no refused pattern"):
        patterns("en")
    patterns.cache_clear()
