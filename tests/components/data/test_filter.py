"""Good documents stay, poor ones go, and each rule is judged by the kind it is meant for."""

from collections import Counter
from dataclasses import fields

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from components.common.documents import part_files, read_table, text_revision
from components.common.errors import UsageError
from components.common.step import Context
from components.data.filter.boilerplate import section_of
from components.data.filter.language import CompiledIdentifier, Identifier
from components.data.filter.measure import measure
from components.data.filter.options import Filter
from components.data.filter.phrases import Phrases
from components.data.filter.quality import run
from components.data.filter.rules import Poor
from pipelines.single import run_single

ENGLISH = (
    "Requests allows you to send HTTP requests extremely easily. There is no need to manually add query strings to "
    "your addresses, or to form-encode your data. Keep-alive and connection pooling are automatic, thanks to urllib3."
)
KOREAN = (
    "이 라이브러리는 한글 자모를 분해하고 조합하는 도구입니다. 조사를 알맞게 붙여 주며, "
    "초성 검색에도 사용할 수 있습니다. "
    "설치는 명령 한 줄이면 충분하고, 자세한 사용법은 아래 문서에서 확인할 수 있습니다."
)
GERMAN = (
    "Diese Bibliothek zerlegt koreanische Silben in ihre Bestandteile und setzt sie danach wieder zusammen, "
    "so schnell es eben geht."
)
CODE = "import os\n\n\ndef main() -> None:\n    print(os.getcwd())\n\n\nif __name__ == '__main__':\n    main()\n" * 3


@pytest.fixture
def judged(document, written, tmp_path, environment):
    def keep(rows, **options):
        documents = [document(text, str(number), **fields) for number, (text, fields) in enumerate(rows)]
        outcome = run(written(documents), tmp_path / "out", Filter(**options), Context("data/filter", environment))
        return outcome, read_table(tmp_path / "out").to_pylist()

    return keep


LONG = (
    "The harbour of the town was built by merchants who had come from the north, and it has been in use ever since. "
    "Ships that carry grain and timber are loaded there in spring. A narrow canal leads to the mill, whose owner keeps "
    "the sluice in order. When the river is high, the boats have to wait for a day or two. Fishermen mend their nets "
    "on the quay and sell what they have caught before the sun is up. Nobody remembers a winter without ice."
)
LONG_KOREAN = (
    "이 항구는 북쪽에서 온 상인들이 세웠고 지금도 쓰이고 있다. 봄이 되면 곡식과 목재를 실은 배가 이곳에서 떠난다. "
    "좁은 수로가 방앗간까지 이어지며, 주인은 수문을 손본다. 강물이 불어나면 배는 하루나 이틀을 기다려야 한다. 어부들은 "
    "부두에서 그물을 고치고 해가 뜨기 전에 잡은 것을 판다. 얼음이 얼지 않은 겨울을 기억하는 사람은 아무도 없다. "
    "등대지기는 밤마다 불을 밝히고 아침에 바다를 살핀다. 아이들은 모래밭에서 조개를 줍는다. 시장에는 "
    "생선을 사려는 사람이 많다. 마을 학교에서는 배를 만드는 법도 가르친다."
)


@pytest.mark.parametrize(
    ("text", "fields", "rule"),
    [
        ("Too short.", {}, "too_short"),
        (ENGLISH * 3, {}, "repeated_phrases"),
        (LONG, {}, None),
        (LONG_KOREAN, {}, None),
        (GERMAN, {}, "language"),
        (GERMAN, {"language": "en"}, None),
        ("=" * 300 + " rule " + "+-" * 100, {"language": "en"}, "few_letters"),
        (" ".join(f"value {number}123" for number in range(50)), {"language": "en"}, "digits"),
        ("aaab abab bbaa " * 20, {"language": "en"}, "low_entropy"),
        (LONG + " 12 7" * 40, {}, "few_words"),
        (" ".join(word * 5 for word in LONG.split()), {}, "word_length"),
        (" ".join(word.strip(".") * 4 for word in LONG_KOREAN.split()), {}, "word_length"),
        ("word # and … words " * 20 + ENGLISH, {}, "symbols"),
        ("\n".join(f"- {line}" for line in LONG.split(". ")), {}, "bullets"),
        ("\n".join(f"{line} …" for line in LONG.split(". ")), {}, "ellipses"),
        ("\n".join(f"* {line}" for line in LONG_KOREAN.split(". ")), {}, "bullets"),
        (" ".join(word for word in f"{LONG} {ENGLISH}".split() if len(word) > 4), {}, "few_stop_words"),
        (" ".join(f"{word[:2]}곰" for word in LONG_KOREAN.split()), {}, "few_stop_words"),
        ("\n".join(["Read more about it here today."] * 5 + [ENGLISH]), {}, "repeated_lines"),
        ("\n".join(["자세한 내용은 아래에서 볼 수 있다."] * 5 + [KOREAN]), {}, "repeated_lines"),
        ("\n".join([ENGLISH, ENGLISH, *LONG.split()[:12]]), {}, "repeated_line_characters"),
        (
            "\n\n".join([LONG.replace(". ", ".\n"), *["A short one.\nAnother."] * 2]),
            {},
            "repeated_paragraphs",
        ),
        ("the spam and the eggs of more text follow here. " * 12, {}, "repeated_words"),
        ("조용한 바다가 보이는 언덕으로 간다. " * 12, {}, "repeated_words"),
        (LONG + " And " + LONG, {}, "repeated_phrases"),
        (LONG_KOREAN + " 그리고 " + LONG_KOREAN, {}, "repeated_phrases"),
        (LONG_KOREAN + " 그리고 " + LONG_KOREAN, {"kind": "log"}, None),
        (LONG + " lorem ipsum dolor sit amet " + LONG[:40], {}, "placeholder"),
        (ENGLISH + " Buy now! Free shipping, promo code inside. Act now.", {}, "spam"),
        (KOREAN + " 카톡 문의 주세요. 무료체험 후 지금 구매하시면 할인쿠폰을 드립니다.", {}, "spam"),
        ("See https://example.org/" + "very/long/path" * 40 + " for all of it.", {"language": "en"}, "addresses"),
        (LONG.upper(), {}, "capitals"),
        (ENGLISH + " What a fucking load of shit, you motherfucker.", {}, "harmful"),
        (KOREAN + " 야 이 병신아, 씨발 정말 미친 새끼들이네.", {}, "harmful"),
        (ENGLISH + "\n\n```\n" + "pip install it\n" * 30 + "```\n", {}, None),
        (ENGLISH + "\n" + "### Part\n" * 1 + "[a](#x) [b](#y) [c](#z) [d](#q) [e](#r) [f](#s) [g](#t)", {}, None),
        (CODE, {"kind": "code"}, None),
        (CODE + "x = '" + "a, " * 700 + "'\n", {"kind": "code"}, "long_lines"),
        (("v = '" + "ab1" * 60 + "'\n") * 5, {"kind": "code"}, "long_mean_line"),
        ("a = [(),(),{},(),[],(),{}]\n" * 9, {"kind": "code"}, "code_symbols"),
        (
            CODE * 10 + "\nx = '" + "a1B+" * 100 + "'\n",
            {"kind": "code", "options": {"code": {"max_run": 300}}},
            "encoded",
        ),
        ("# Code generated by protoc-gen. DO NOT EDIT.\n" + CODE, {"kind": "code"}, "generated"),
        ("# 이 파일은 자동으로 생성된 것이므로 수정하지 마세요.\n" + CODE, {"kind": "code"}, "generated"),
        ("# Generated by hand.\n" + CODE, {"kind": "code"}, None),
        ("| 1 | 2 | 3 | 4 |\n" * 30, {"kind": "table", "language": "en"}, None),
        ("ok\nthanks\nok\nthanks\nok\nthanks\n" + ENGLISH, {"kind": "dialogue"}, None),
    ],
)
def test_each_rule(judged, text, fields, rule):
    fields = dict(fields)
    outcome, rows = judged([(text, fields)], **fields.pop("options", {}))
    assert outcome.dropped == ({rule: 1} if rule else {})
    assert len(rows) == (0 if rule else 1)


def test_languages_are_named_and_code_has_none(judged):
    _, rows = judged([(ENGLISH, {}), (KOREAN, {}), (CODE, {"kind": "code"}), (KOREAN, {"language": "ko-KR"})])
    assert [row["language"] for row in rows] == ["en", "ko", "zxx", "ko-KR"]


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (KOREAN + "\n```python\n" + CODE * 5 + "```\n", "ko"),
        ("`pip install hgtk` 로 설치하세요. https://github.com/bluedisk/hangul-toolkit", "ko"),
        (ENGLISH, "en"),
        ("日本語の形態素解析を行うためのライブラリです。とても速いです。", "ja"),
        ("12345 --- ===", "und"),
        ("", "und"),
    ],
)
def test_identification_looks_at_the_words(text, language):
    assert Identifier(Filter().candidates, 0.6).identify(text)[0] == language


@pytest.fixture(scope="module")
def identifiers() -> list[LanguageIdentifier]:
    made = [kind.from_model_file(MODEL_FILE, norm_probs=True) for kind in (LanguageIdentifier, CompiledIdentifier)]
    for identifier in made:
        identifier.set_languages(Filter().candidates)
    return made


@given(
    st.text() | st.lists(st.sampled_from([*ENGLISH.split(), *KOREAN.split(), *GERMAN.split(), "東京"])).map(" ".join)
)
def test_compiled_identification_is_that_of_the_library_to_the_bit(identifiers, text):
    library, ours = identifiers
    assert ours.classify(text) == library.classify(text)
    assert ours.rank(text) == library.rank(text)


def test_an_unknown_language_is_refused_by_name(judged):
    with pytest.raises(UsageError, match="xx: no such language"):
        judged([(ENGLISH, {})], languages=["xx"])


def test_the_report_quotes_only_what_it_may(judged):
    rows = [
        ("public word", {"confidentiality": "public", "pii": "masked"}),
        ("secret word", {"confidentiality": "confidential", "pii": "masked"}),
        ("unmasked word", {"confidentiality": "public", "pii": "present"}),
    ]
    outcome, kept = judged(rows)
    page = outcome.report.html()
    assert kept == []
    assert outcome.dropped == {"too_short": 3}
    assert "public word" in page
    assert "secret word" not in page
    assert "unmasked word" not in page


TEXTS = st.lists(
    st.text(st.one_of(st.characters(codec="utf-8", max_codepoint=0x2FFFF), st.sampled_from("ab 가나\n\n`#[](.…-"))),
    min_size=1,
    max_size=5,
)


@given(TEXTS)
def test_measures_agree_with_counting_by_hand(texts):
    measured = measure(pa.array(texts, pa.large_string()), np.ones(len(texts), bool))
    for row, text in enumerate(texts):
        visible = [character for character in text if not character.isspace()]
        counts = np.array(list(Counter(visible).values())) / max(len(visible), 1)
        assert measured.characters[row] == len(visible)
        assert measured.letters[row] * max(len(visible), 1) == pytest.approx(sum(map(str.isalpha, visible)))
        assert measured.digits[row] * max(len(visible), 1) == pytest.approx(sum(map(str.isdigit, visible)))
        assert measured.longest_line[row] == max(map(len, text.split("\n")))
        assert measured.mean_line[row] == pytest.approx(np.mean([len(line) for line in text.split("\n")]))
        assert measured.entropy[row] <= -sum(counts * np.log2(counts)) + 1e-9
        shares = [measured.repeated_lines, measured.repeated_paragraphs, measured.terminals, measured.worded]
        for share in [*shares, *measured.top_ngrams, *measured.duplicate_ngrams]:
            assert 0 <= share[row] <= 1


def top_share(words: list[str], size: int) -> float:
    """Gopher's share of the most frequent n-gram, on Python strings."""
    grams = Counter(tuple(words[at : at + size]) for at in range(len(words) - size + 1))
    count = max(grams.values(), default=1)
    longest = max((len("".join(gram)) for gram, times in grams.items() if times == count), default=0)
    return min(1, count * longest / max(1, len("".join(words)))) if count > 1 else 0


def duplicate_share(words: list[str], size: int) -> float:
    """Gopher's share of characters in n-grams that were there before, each counted once, on Python strings."""
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for at in range(len(words) - size + 1):
        gram = tuple(words[at : at + size])
        if gram in seen:
            covered.update(range(at, at + size))
        seen.add(gram)
    return sum(len(words[at]) for at in covered) / max(1, len("".join(words)))


@given(st.lists(st.sampled_from(["bread", "and", "butter", "빵과", "버터"]), max_size=60))
def test_ngrams_agree_with_counting_by_hand(words):
    measured = measure(pa.array([" ".join(words)], pa.large_string()), np.ones(1, bool))
    for size, shares in zip((2, 3, 4), measured.top_ngrams, strict=True):
        assert shares[0] == pytest.approx(top_share(words, size))
    for size, shares in zip(range(5, 11), measured.duplicate_ngrams, strict=True):
        assert shares[0] == pytest.approx(duplicate_share(words, size))


@given(st.lists(st.sampled_from("漢字仮名交文"), max_size=60))
def test_without_spaces_two_characters_stand_for_a_word(characters):
    measured = measure(pa.array(["".join(characters)], pa.large_string()), np.ones(1, bool))
    for size, shares in zip((2, 3, 4), measured.top_ngrams, strict=True):
        assert shares[0] == pytest.approx(top_share(characters, 2 * size))


@given(TEXTS, st.integers(0, 4))
def test_a_text_is_measured_the_same_in_any_batch(texts, at):
    at %= len(texts)
    together = measure(pa.array(texts, pa.large_string()), np.ones(len(texts), bool))
    alone = measure(pa.array(texts, pa.large_string()).slice(at, 1), np.ones(1, bool))
    for field in fields(together):
        whole, single = getattr(together, field.name), getattr(alone, field.name)
        assert np.array_equal(np.atleast_2d(whole)[:, at], np.atleast_2d(single)[:, 0])


def test_repetition_is_what_it_says():
    texts = ["one line\nanother\none line\n---\n---\n", "alpha beta alpha beta alpha beta", "same line", "same line"]
    measured = measure(pa.array(texts, pa.large_string()), np.ones(4, bool))
    assert measured.repeated_lines.tolist() == pytest.approx([1 / 3, 0, 0, 0])
    assert measured.repeated_line_characters[0] == pytest.approx(7 / 21)
    assert measured.top_ngrams[0].tolist() == pytest.approx([2 * 7 / 27, 3 * 9 / 27, 0, 0])


@pytest.mark.parametrize(
    ("line", "section"),
    [
        ("Home | Products | About us | Contact", "navigation"),
        ("- [홈](/) · [로그인](/login) · [회원가입](/join)", "navigation"),
        ("홈 뉴스 정치 경제 사회", "navigation"),
        ("Home", ""),
        ("Contact the author before you use it.", ""),
        ("We use cookies to improve your experience.", "cookies"),
        ("이 사이트는 더 나은 서비스를 위해 쿠키를 사용합니다.", "cookies"),
        ("Share this article", "sharing"),
        ("이 기사 공유하기", ""),
        ("공유하기", "sharing"),
        ("Subscribe to our newsletter for more", "subscribing"),
        ("구독과 좋아요 부탁드립니다!", "subscribing"),
        ("개인정보처리방침 | 이용약관 | 고객센터", "navigation"),
        ("저작권자 ⓒ 어느 신문, 무단 전재 및 재배포 금지", "rights"),
        ("## Privacy policy", ""),
        ("Copyright (c) 2020 Somebody. All rights reserved.", ""),
        ("We use cookies " + "and explain at length what for " * 10, ""),
    ],
)
def test_lines_of_the_page_are_told_from_those_of_the_text(line, section):
    assert section_of(line) == section


def test_boilerplate_goes_and_is_counted_by_line_and_by_document(judged):
    page = f"Home | About | Contact\n\n{LONG}\n\nShare this\n\n```\nShare this\n```"
    furniture = "We use cookies.\nAccept all\nSkip to content\n공유하기\n구독하기\n" * 4 + ENGLISH[:75]
    turns = [{"role": "user", "content": "Share this"}]
    outcome, rows = judged([(page, {}), (furniture, {}), (f"Share this\n{LONG}", {"messages": turns})])
    assert outcome.dropped == {"boilerplate": 1}
    assert (outcome.metrics["boilerplate_lines"], outcome.metrics["boilerplate_documents"]) == (22, 2)
    assert [row["text"] for row in rows] == [f"{LONG}\n\n```\nShare this\n```", f"Share this\n{LONG}"]
    assert [row["revision"] for row in rows] == [text_revision(row["text"]) for row in rows]


@pytest.mark.parametrize(
    ("phrase", "text", "count"),
    [
        ("시발", "시발 정말", 1),
        ("시발", "시발이라고 했다", 1),
        ("시발", "시발점에서 만나", 0),
        ("시발", "부산시발 열차", 0),
        ("병신*", "병신년에 태어난 병신들", 2),
        ("*카지노*", "온라인카지노사이트", 1),
        ("무료 체험", "무료체험을, 무료 체험은", 2),
        ("buy now", "Buy  now! buynow rebuy now", 1),
        ("secret", "secret, secrets and 나의 secret이다", 2),
        ("secret*", "secrets and secretary", 2),
        ("a.b", "axb a.b", 1),
    ],
)
def test_terms_have_borders(phrase, text, count):
    phrases = Phrases([phrase])
    assert phrases.count(text).total() == count
    assert phrases.likely(pa.array([text], pa.large_string()))[0] or not count


@given(st.text(alphabet="가나다는 ab", min_size=1).filter(str.strip), st.text(alphabet="가나다는 ab."))
def test_a_term_with_spaces_around_it_is_always_found(term, text):
    found = Phrases([term.strip()]).count(f"{text} . {' '.join(term.split())} . {text}")
    assert found.total() >= 1


def test_a_banned_term_excludes_any_kind(judged):
    banned = {"terms": {"banned": ["Projekt Adler", "대외비*"]}}
    rows = [(CODE + "# projekt adler\n", {"kind": "code"}), (LONG_KOREAN + " 대외비로 한다.", {}), (LONG, {})]
    outcome, kept = judged(rows, **banned)
    assert outcome.dropped == {"banned": 2}
    assert [row["text"] for row in kept] == [LONG]


def test_quality_tells_the_better_of_two(judged):
    noisy = LONG + "\n\n" + "\n".join(f"* [link {n}](https://example.org/{'x' * 30}/{n})" for n in range(8))
    _, rows = judged([(LONG, {}), (noisy, {}), (LONG_KOREAN, {}), (CODE, {"kind": "code"})], min_quality=0.1)
    quality = [float(dict(row["metadata"])["quality"]) for row in rows]
    assert all(0 <= value <= 1 for value in quality)
    assert quality[0] > quality[1]
    assert min(quality[0], quality[2]) > 0.7
    outcome, _ = judged([(LONG, {}), (noisy, {})], min_quality=(quality[0] + quality[1]) / 2)
    assert outcome.dropped == {"low_quality": 1}


def test_the_report_names_every_rule_with_its_limit(judged):
    outcome, _ = judged([(LONG, {}), ("short", {})])
    page = outcome.report.html()
    for rule in Poor:
        assert f">{rule.value}<" in page, rule


def test_the_component_writes_the_same_bytes_every_time(document, written, tmp_path, environment):
    documents = written([document(ENGLISH, "a"), document(KOREAN, "b"), document("short", "c")])
    parts = []
    for name in ("first", "second"):
        metrics = run_single("data/filter", {"documents": documents}, {"kept": tmp_path / name}, {}, environment)
        parts.append([part.read_bytes() for part in part_files(tmp_path / name)])
    assert parts[0] == parts[1]
    assert metrics["dropped_too_short"] == metrics["records_in"] - metrics["records_out"] == 1
