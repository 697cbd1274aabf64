"""A small language model learnt from the corpus tells text from noise, in both languages, by exact arithmetic."""

import hashlib
import math
import random
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.common.documents import read_table
from components.common.errors import UsageError
from components.common.step import Context
from components.data.filter.options import Filter, Perplexity
from components.data.filter.perplexity import ORDER, Model
from components.data.filter.quality import run

ENGLISH = (
    ["the harbour", "a narrow canal", "every fisherman", "the old mill", "one of the boats"],
    ["carries", "repairs", "waits for", "belongs to", "looks like"],
    ["grain from the north", "timber in spring", "the people of the town", "a quiet winter", "nets on the quay"],
)
KOREAN = (
    ["이 항구는", "좁은 수로가", "모든 어부는", "오래된 방앗간은", "마을 사람들은"],
    ["북쪽에서 온 곡식을", "봄마다 목재를", "부두에서 그물을", "해가 뜨기 전에 배를", "겨울에도 시장을"],
    ["기다린다.", "고친다.", "실어 나른다.", "돌본다.", "기억하고 있다."],
)


def tell(grammar, seed, sentences=40):
    draw = random.Random(seed)
    end = "" if grammar is KOREAN else ". "
    return " ".join(" ".join(map(draw.choice, grammar)) + end for _ in range(sentences))


def scrambled(text, seed=0):
    letters = list(text)
    random.Random(seed).shuffle(letters)
    return "".join(letters)


def identifier(name, half):
    return hashlib.sha256(name.encode()).hexdigest()[:-1] + str(half)


def reference(learnt, text):
    """Perplexity of a word by dictionaries, for texts of lower-case letters and single spaces."""
    counts, follows = Counter(), defaultdict(set)
    for words in learnt:
        for at in range(len(words)):
            counts[""] += 1
            for size in range(1, min(at + 1, ORDER) + 1):
                string = words[at + 1 - size : at + 1]
                counts[string] += 1
                follows[string[:-1]].add(string[-1])
    bits = 0.0
    for at, character in enumerate(text):
        chance = 2.0**-16
        for size in range(min(at, ORDER - 1) + 1):
            context = text[at - size : at]
            if follows[context]:
                different = len(follows[context])
                chance = (counts[context + character] + different * chance) / (counts[context] + different)
        bits -= math.log2(chance)
    words = sum(0.5 if "가" <= c <= "힣" else 0 for c in text) + len(
        "".join(c if c < "가" else " " for c in text).split()
    )
    return 2 ** min(bits / words, 64)


PHRASE = st.lists(st.text("abcé곰나", min_size=1, max_size=6), min_size=1, max_size=8).map(" ".join)


@settings(max_examples=30, deadline=None)
@given(st.lists(PHRASE, min_size=1, max_size=4), PHRASE)
def test_perplexity_is_what_the_definition_says(learnt, text):
    model = Model(least=0)
    ids = pa.array([identifier(str(number), 0) for number in range(len(learnt))])
    model.learn(pa.array(learnt, pa.large_string()), ids)
    [found] = model.perplexity(pa.array([text], pa.large_string()), pa.array([identifier("judged", 1)]))
    assert found == pytest.approx(min(reference(learnt, text), 1e12), rel=1e-9)
    [ignorant] = model.perplexity(pa.array([text], pa.large_string()), pa.array([identifier("judged", 0)]))
    assert ignorant == pytest.approx(min(reference([], text), 1e12), rel=1e-9)


def test_a_script_that_was_not_learnt_is_not_judged():
    model = Model()
    model.learn(pa.array([tell(ENGLISH, 0, 600)], pa.large_string()), pa.array([identifier("a", 0)]))
    texts = pa.array([tell(ENGLISH, 1), tell(KOREAN, 1)], pa.large_string())
    english, korean = model.perplexity(texts, pa.array([identifier("b", 1), identifier("c", 1)]))
    assert english < 20 and np.isnan(korean)
    assert np.isnan(model.perplexity(texts, pa.array([identifier("b", 0), identifier("c", 0)]))).all()


def test_case_digits_and_white_space_do_not_matter_and_no_words_are_not_judged():
    model = Model(least=0)
    model.learn(pa.array([tell(ENGLISH, 0)], pa.large_string()), pa.array([identifier("a", 0)]))
    texts = ["The mill of 1850 waits", "the  MILL\nof 1962 waits", "— !! —", ""]
    found = model.perplexity(pa.array(texts, pa.large_string()), pa.array([identifier(text, 1) for text in texts]))
    assert found[0] == found[1] and np.isnan(found[2:]).all()


@pytest.fixture
def judged(document, written, tmp_path, environment):
    corpus = [
        document(tell(grammar, seed, 120), f"{language}{seed}", language=language, source=source)
        for grammar, language, source in ((ENGLISH, "en", "good/a"), (KOREAN, "ko", "good/b"))
        for seed in range(30)
    ]

    def keep(rows, few=60, **perplexity):
        noise = [document(text, name, **{"language": "en", "source": "new", **fields}) for name, text, fields in rows]
        options = Filter(
            perplexity=Perplexity(model="corpus", **perplexity),
            repetition={
                "max_top_ngrams": [1] * 3,
                "max_duplicate_ngrams": [1] * 6,
                "max_lines": 1,
                "max_line_characters": 1,
                "max_paragraphs": 1,
                "max_paragraph_characters": 1,
            },
            prose={"min_stop_words": 0, "word_length": (1, 99), "word_length_korean": (1, 99)},
        )
        outcome = run(written([*corpus[:few], *noise]), tmp_path / "out", options, Context("data/filter", environment))
        return outcome, {row["url"]: dict(row["metadata"]) for row in read_table(tmp_path / "out").to_pylist()}

    return keep


def test_noise_goes_and_text_stays_in_both_languages(judged):
    rows = [
        ("english", tell(ENGLISH, 99), {}),
        ("korean", tell(KOREAN, 99), {"language": "ko"}),
        ("english-noise", scrambled(tell(ENGLISH, 99)), {}),
        ("korean-noise", scrambled(tell(KOREAN, 99)), {"language": "ko"}),
        ("code", "\n".join(scrambled(tell(ENGLISH, 99)).split()), {"kind": "code"}),
    ]
    outcome, kept = judged(rows, sources=["good"])
    assert {"english", "korean", "english-noise", "korean-noise", "code"} <= set(kept) and not outcome.dropped
    assert "perplexity" not in kept["code"] and float(kept["english"]["perplexity"]) < 20
    for name in ("english", "korean"):
        assert float(kept[f"{name}-noise"]["perplexity"]) > 20 * float(kept[name]["perplexity"])
    assert "Perplexity of a word, by language" in outcome.report.html()
    outcome, kept = judged(rows, sources=["good"], above=1_000)
    assert outcome.dropped == {"perplexity": 2}
    assert {"english", "korean", "code"} <= set(kept)
    assert "its perplexity is above" in outcome.report.html()


def test_a_document_is_not_expected_because_it_was_learnt(judged):
    once = " ".join(f"zq{number}xj vw{number % 7}kk" for number in range(60)).replace("0", "o")
    _, kept = judged([("once", once, {})])
    assert float(kept["once"]["perplexity"]) > 1_000


def test_too_little_to_learn_from_is_an_error(judged):
    with pytest.raises(UsageError, match=r"filter\.perplexity: sources elsewhere hold 0 characters of running text"):
        judged([], sources=["elsewhere"])
    with pytest.raises(UsageError, match=r"the documents hold .* at least 40,000 are needed"):
        judged([], few=1)
    with pytest.raises(ValueError, match="set model: corpus"):
        Perplexity(above=100)
