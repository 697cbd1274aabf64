"""Good documents stay, poor ones go, and each rule is judged by the kind it is meant for."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.common.documents import part_files, read_table
from components.common.errors import UsageError
from components.common.step import Context
from components.data.filter.language import Identifier
from components.data.filter.measure import measure
from components.data.filter.options import Filter
from components.data.filter.quality import run
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


@pytest.mark.parametrize(
    ("text", "fields", "rule"),
    [
        ("Too short.", {}, "too_short"),
        (ENGLISH * 3, {}, None),
        (GERMAN, {}, "language"),
        (GERMAN, {"language": "en"}, None),
        ("=" * 300 + " rule " + "+-" * 100, {"language": "en"}, "few_letters"),
        (" ".join(f"value {number}123" for number in range(50)), {"language": "en"}, "digits"),
        ("word # and … words " * 20 + ENGLISH, {}, "symbols"),
        ("\n".join(["Read more about it here today."] * 5 + [ENGLISH]), {}, "repeated_lines"),
        ("\n".join([ENGLISH, ENGLISH, *ENGLISH.split()[:12]]), {}, "repeated_characters"),
        ("spam eggs and more text follows here. " * 12, {}, "repeated_words"),
        (ENGLISH + "\n\n```\n" + "pip install it\n" * 30 + "```\n", {}, None),
        (ENGLISH + "\n" + "### Part\n" * 1 + "[a](#x) [b](#y) [c](#z) [d](#q) [e](#r) [f](#s) [g](#t)", {}, None),
        (CODE, {"kind": "code"}, None),
        (CODE + "x = '" + "a" * 2000 + "'\n", {"kind": "code"}, "long_lines"),
        (("v = '" + "ab1" * 60 + "'\n") * 5, {"kind": "code"}, "long_mean_line"),
        ("a = [(),(),{},(),[],(),{}]\n" * 9, {"kind": "code"}, "code_symbols"),
        ("| 1 | 2 | 3 | 4 |\n" * 30, {"kind": "table", "language": "en"}, None),
    ],
)
def test_each_rule(judged, text, fields, rule):
    outcome, rows = judged([(text, fields)])
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
    assert Identifier(Filter().candidates, 0.6).identify(text) == language


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


@given(st.lists(st.text(st.characters(codec="utf-8", max_codepoint=0x2FFFF)), min_size=1, max_size=5))
def test_measures_agree_with_counting_by_hand(texts):
    measured = measure(pa.array(texts, pa.large_string()), np.ones(len(texts), bool))
    for row, text in enumerate(texts):
        visible = [character for character in text if not character.isspace()]
        assert measured.characters[row] == len(visible)
        assert measured.letters[row] * max(len(visible), 1) == pytest.approx(sum(map(str.isalpha, visible)))
        assert measured.longest_line[row] == max(map(len, text.split("\n")))
        assert 0 <= measured.repeated_lines[row] <= 1


def test_repetition_is_what_it_says():
    texts = ["one line\nanother\none line\n---\n---\n", "alpha beta alpha beta alpha beta", "same line", "same line"]
    measured = measure(pa.array(texts, pa.large_string()), np.ones(4, bool))
    assert measured.repeated_lines.tolist() == pytest.approx([1 / 3, 0, 0, 0])
    assert measured.repeated_characters[0] == pytest.approx(8 / 23)
    assert measured.top_bigram.tolist() == pytest.approx([2 * 7 / 27, 3 * 9 / 27, 0, 0])


def test_the_component_writes_the_same_bytes_every_time(document, written, tmp_path, environment):
    documents = written([document(ENGLISH, "a"), document(KOREAN, "b"), document("short", "c")])
    parts = []
    for name in ("first", "second"):
        metrics = run_single("data/filter", {"documents": documents}, {"kept": tmp_path / name}, {}, environment)
        parts.append([part.read_bytes() for part in part_files(tmp_path / name)])
    assert parts[0] == parts[1]
    assert metrics["dropped_too_short"] == metrics["records_in"] - metrics["records_out"] == 1
