"""Rewards are pure: right answers earn, and nothing does that violates the format asked for."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.model.align.options import Rewards
from components.model.align.rewards import REWARDS, Asked, gated, total

SCHEMA = '{"type": "object", "required": ["답"], "properties": {"답": {"type": "string"}}}'
IN_JSON = Asked("라이선스는?", '{"답": "MIT"}', "json", SCHEMA)
IN_WORDS = Asked("Passages:\n[1] arvo is MIT\n[2] belkin is BSD\nWhich licence has arvo?", "MIT")
CALL = Asked("?", '{"name": "refund", "arguments": {"days": 3}}', "call", '[{"name": "refund", "parameters": {}}]')


@pytest.mark.parametrize(
    ("name", "answer", "asked", "reward"),
    [
        ("exact", "mit.", IN_WORDS, 1),
        ("exact", "MIT licence", IN_WORDS, 0),
        ("exact", '{ "답" : "MIT" }', IN_JSON, 1),
        ("exact", '{"답": "BSD"}', IN_JSON, 0),
        ("exact", "MIT", IN_JSON, 0),
        ("exact", "true", Asked("?", "1", "json"), 0),
        ("exact", "1.0", Asked("?", "1", "json"), 1),
        ("exact", '{"arguments": {"days": 3.0}, "name": "refund"}', CALL, 1),
        ("exact", '{"name": "refund", "arguments": {"days": 4}}', CALL, 0),
        ("overlap", "MIT licence", IN_WORDS, pytest.approx(2 / 3)),
        ("format", '{"답": "BSD"}', IN_JSON, 1),
        ("format", '{"답": ', IN_JSON, 0),
        ("format", "MIT", IN_WORDS, 0),
        ("schema", '{"답": "BSD"}', IN_JSON, 1),
        ("schema", '{"답": 1}', IN_JSON, 0),
        ("schema", "{}", Asked("?", "{}", "json"), 0),
        ("citation", "MIT [1]", IN_WORDS, 1),
        ("citation", "MIT", IN_WORDS, 0),
        ("citation", "MIT [1][3]", IN_WORDS, 0),
        ("citation", "MIT [3]", Asked("?", "MIT"), 1),
    ],
)
def test_what_each_reward_counts(name: str, answer: str, asked: Asked, reward: float) -> None:
    assert REWARDS[name](answer, asked) == reward


@given(st.text(max_size=40), st.sampled_from(sorted(REWARDS)))
def test_a_violated_format_earns_nothing_and_rewards_lie_between_0_and_1(answer: str, name: str) -> None:
    for asked in (IN_JSON, IN_WORDS, CALL):
        assert 0 <= REWARDS[name](answer, asked) <= 1
    broken = json.dumps({"답": answer}, ensure_ascii=False)[:-1]
    assert gated(REWARDS[name])(broken, IN_JSON) == 0 == total(broken, IN_JSON, {name: 1.0})


def test_the_total_is_the_weighted_mean() -> None:
    weights = Rewards(exact=1.0, format=0.5, citation=0.5).weights()
    assert total('{"답": "MIT"}', IN_JSON, weights) == pytest.approx(1.5 / 2)
    assert total('{"답": "BSD"}', IN_JSON, weights) == pytest.approx(0.5 / 2)
    assert total("MIT", IN_JSON, weights) == 0
    assert set(REWARDS) == set(weights)
