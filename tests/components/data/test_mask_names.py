"""People and places are found in English and Korean, masked as one wherever they are one, and only if asked for."""

import re
import sys
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from components.common.documents import read_table
from components.common.errors import HeadraceError
from components.common.step import Context
from components.data.mask import english, korean
from components.data.mask.detector import Finding
from components.data.mask.lists import read_list
from components.data.mask.options import NAMES, RULES, Mask
from components.data.mask.people import People, _is_part, _occurrences, _pieces, find_each
from components.data.mask.personal import Masker, _outside, run
from tests.benchmarks.judging import judge
from tests.benchmarks.labelled import Language
from tests.benchmarks.named import KINDS, named

COMMON = {"김", "이", "박"}


@pytest.fixture(scope="module")
def finders() -> None:
    """Packages of the extra `names`, which `make test` installs."""
    for package in ("spacy", english.MODEL, "kiwipiepy"):
        pytest.importorskip(package, reason="one of the packages of the extra `names`")


def masked(text: str, *kinds: str) -> str:
    found = find_each([text], kinds or NAMES)[0]  # type: ignore[arg-type]
    people = People(one.canonical for one in found if one.kind == "person")
    return Masker([*RULES, *NAMES], people=people).mask(text, found)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_what_judges_shares_no_sentence_and_no_name_with_what_was_developed_on(language: Language) -> None:
    dev, test = (named(split, language, 1_000) for split in ("dev", "test"))
    assert not {one.text for one in dev} & {one.text for one in test}
    spans = [{one.text[start:end] for one in split for start, end, _ in one.spans} for split in (dev, test)]
    assert len(spans[0]) > 300 and len(spans[1]) > 300
    assert spans[0] & spans[1] <= COMMON


@pytest.mark.usefixtures("finders")
@pytest.mark.parametrize("language", ["en", "ko"])
def test_names_that_the_finders_were_not_written_for(language: Language) -> None:
    labelled = named("test", language, 600)
    found = find_each([one.text for one in labelled], NAMES)
    score = judge(labelled, [[one[:3] for one in each] for each in found], KINDS, partly=True)
    assert score.f1("person") >= 0.88 and score.f1("place") >= 0.88, "\n".join(score.errors)
    assert score.precision() >= 0.95


@pytest.mark.usefixtures("finders")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "김철수 부장이 왔다. 김철수씨와 김 부장님은 같은 사람이다.",
            "[PERSON_1] 부장이 왔다. [PERSON_1]씨와 [PERSON_1] 부장님은 같은 사람이다.",
        ),
        ("담당자는 남궁민수이고 부산에 산다.", "담당자는 [PERSON_1]이고 [PLACE_1]에 산다."),
        ("Ada Novak met Ms Novak's brother in Vienna.", "[PERSON_1] met Ms [PERSON_1]'s brother in [PLACE_1]."),
        ("Reported by Zoe Tanaka (zoe@corp.io)", "Reported by [PERSON_1] ([EMAIL_1])"),
        ("이영희 님, Robert Petrov 씨의 답장입니다.", "[PERSON_1] 님, [PERSON_2] 씨의 답장입니다."),
        ("We met Elena Petrova.\n박서준 씨가 전화했다.", "We met [PERSON_1].\n[PERSON_2] 씨가 전화했다."),
    ],
)
def test_found_and_masked_as_one(text: str, expected: str) -> None:
    assert masked(text) == expected


@pytest.mark.usefixtures("finders")
@pytest.mark.parametrize(
    "text",
    [
        "Will you mark it in May? There is a grace period.",
        "Newton's method and the Markov chain; Bill of Materials",
        "이상한 소리가 정말로 이유 없이 최소한 한 번은 났다.",
        "이천 원짜리 진주 목걸이, 부산은행, 대구탕",
        "[PERSON_1] and [PLACE_2]",
    ],
)
def test_what_only_looks_like_a_name_stays(text: str) -> None:
    assert masked(text) == text


@pytest.mark.usefixtures("finders")
def test_each_kind_is_chosen_by_itself(document, written, tmp_path, environment) -> None:
    documents = written(
        [document("Elena Petrova lives in Vienna.", "one"), document("이영희 씨는 서울에 산다.", "two")]
    )
    texts = {}
    for kinds in (["person"], ["place"], [*NAMES]):
        out = tmp_path / "-".join(kinds)
        run(documents, out, tmp_path / "originals", Mask(kinds=kinds), Context("data/mask", environment))
        texts[tuple(kinds)] = read_table(out)["text"].to_pylist()
    assert texts["person",] == ["[PERSON_1] lives in Vienna.", "[PERSON_1] 씨는 서울에 산다."]
    assert texts["place",] == ["Elena Petrova lives in [PLACE_1].", "이영희 씨는 [PLACE_1]에 산다."]
    assert texts[NAMES] == ["[PERSON_1] lives in [PLACE_1].", "[PERSON_1] 씨는 [PLACE_1]에 산다."]


def test_names_are_not_looked_for_unless_asked_for(monkeypatch) -> None:
    monkeypatch.setattr(english, "_model", lambda: pytest.fail("the model was loaded"))
    assert not set(NAMES) & set(Mask().kinds) and set(Mask().kinds) == set(RULES)
    assert find_each(["Elena Petrova lives in Vienna."], RULES) == [[]]


@pytest.mark.parametrize(
    ("finder", "package", "text"), [(english, "spacy", "Ada met Bo."), (korean, "kiwipiepy", "김철수 씨")]
)
def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, finder, package, text) -> None:
    for loader in ("_model", "_tagger"):
        if hasattr(finder, loader):
            monkeypatch.setattr(finder, loader, getattr(finder, loader).__wrapped__)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(HeadraceError, match="extra `names`: run `make environment`"):
        finder.find([text])


def test_rules_and_masks_go_before_names() -> None:
    text = "Jane Roe <jane.roe@corp.io> [PERSON_1]"
    names = [Finding(0, 8, "person", "jane roe"), Finding(10, 18, "person", "jane roe"), Finding(29, 35, "person", "x")]
    assert Masker([*RULES, *NAMES]).mask(text, names) == "[PERSON_2] <[EMAIL_1]> [PERSON_1]"


@given(
    some.lists(some.tuples(some.integers(0, 40), some.integers(1, 5)), max_size=8),
    some.lists(some.integers(0, 20), unique=True, max_size=8),
)
def test_names_outside_of_what_rules_found_are_those_that_touch_none_of_it(
    names: list[tuple[int, int]], rules: list[int]
) -> None:
    spans = [(2 * at, 2 * at + 1 + at % 2) for at in rules]
    findings = [Finding(start, start + length, "person", "x") for start, length in names]
    expected = [one for one in findings if not any(one.start < end and start < one.end for start, end in spans)]
    assert _outside(findings, spans) == expected


@pytest.mark.parametrize(
    ("names", "wholes"),
    [
        (["ada lovelace", "lovelace", "ada"], ["ada lovelace"] * 3),
        (["a lovelace", "ada lovelace"], ["ada lovelace"] * 2),
        (["smith", "john smith", "jane smith"], ["smith", "john smith", "jane smith"]),
        (["김", "철수", "김철수"], ["김철수"] * 3),
        (["김", "김철수", "김영희", "영희"], ["김", "김철수", "김영희", "김영희"]),
    ],
)
def test_a_part_of_a_name_is_the_person_whose_it_can_only_be(names: list[str], wholes: list[str]) -> None:
    people = People(names)
    assert [people.who(name) for name in names] == wholes


_NAMES = some.one_of(
    some.lists(
        some.sampled_from(["ada", "bo", "a", "b", "novak", "novák", "김철수", "철수"]), min_size=1, max_size=3
    ).map(" ".join),
    some.text("김이철수영 a", min_size=1, max_size=4).map(lambda name: " ".join(name.split()) or "김"),
)


@given(some.lists(_NAMES, max_size=12))
def test_who_is_who_is_what_comparing_every_name_with_every_name_tells(names: list[str]) -> None:
    wholes = {name: [one for one in set(names) if _is_part(name, one)] for name in names}
    longest = {name: [one for one in wholes[name] if not wholes[one]] for name in names}
    people = People(names)
    for name in names:
        assert people.who(name) == (longest[name][0] if len(longest[name]) == 1 else name)


@given(
    some.lists(some.sampled_from(["Ada Novak", "Ada Novak Bo", "Novak", "김철수", "김철수영", "O'Neil"]), min_size=1),
    some.lists(some.sampled_from(["Ada", "Novak", "Bo", "김철수", "영", "가", "O'Neil", " ", "-", ".", "@", "\n"])).map(
        "".join
    ),
)
@example(names=["김철수", "김철수영"], text="김철수")
def test_names_are_found_again_as_an_alternation_of_them_would(names: list[str], text: str) -> None:
    longest_first = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    expected = [match.span() for match in re.finditer(rf"(?<![\w@./-])(?:{longest_first})(?![0-9A-Za-zÀ-ɏ_@/-])", text)]
    assert [one[:2] for one in _occurrences(text, {name: name for name in names})] == expected


@pytest.mark.usefixtures("finders")
def test_lists_are_for_korean_sentences_and_only_for_what_is_asked() -> None:
    assert "Grace Period" in masked("The Grace Period applies.\nThe name 김철수 is Korean.")
    text = "담당자는 Robert Petrov 씨이고 요즘은 in Vienna 이라고 합니다."
    for kinds in (["person"], ["place"], [*NAMES]):
        assert {one.kind for one in find_each([text], kinds)[0]} == set(kinds)  # type: ignore[arg-type]


@pytest.mark.usefixtures("finders")
def test_the_model_keeps_no_words_of_the_texts_it_read() -> None:
    english.find(["Elena Petrova met Bo."])
    strings = english._model().vocab.strings
    before = len(strings)
    assert english.find(["Elena Petrova met " + " ".join(f"qz{place}v" for place in range(500)) + " again."])[0]
    assert len(strings) == before


def test_each_sentence_goes_to_the_finder_of_its_script() -> None:
    text = "Ask Ada Novak now.\n담당자는 John Smith입니다.\nnothing here\nThe name 김철수 is Korean.\n"
    found = [(text[start:end], script) for start, end, script in _pieces(text)]
    assert found == [
        ("Ask Ada Novak now.\n", "latin"),
        ("담당자는 John Smith입니다.\n", "hangul"),
        ("The name 김철수 is Korean.\n", "latin"),
    ]


def test_long_texts_are_read_in_pieces() -> None:
    pieces = list(_pieces("Ada Novak came by once more.\n" * 1_000))
    assert len(pieces) > 4 and max(end - start for start, end, _ in pieces) <= 5_000
    assert all(one[1] == other[0] for one, other in pairwise(pieces))


@pytest.mark.parametrize("written", ["Ada Novak, ", "김철수 부장, ", "QWxh", "가나"])
def test_what_has_no_sentences_is_cut_behind_a_space_if_it_has_any(written: str) -> None:
    text = written * 100_000
    pieces = list(_pieces(text))
    assert "".join(text[start:end] for start, end, _ in pieces) == text
    assert max(end - start for start, end, _ in pieces) <= 5_000
    assert " " not in written or all(text[end - 1] == " " for _, end, _ in pieces)


@pytest.mark.usefixtures("finders")
def test_people_in_one_long_line_are_found_on_both_sides_of_a_cut() -> None:
    found = find_each(["Ada Novak, " * 1_000], ["person"])[0]
    assert [one[:2] for one in found] == [(11 * place, 11 * place + 9) for place in range(1_000)]


@pytest.mark.parametrize("name", ["given_names.en.txt", "given_names.ko.txt", "places.en.txt", "places.ko.txt"])
def test_lists_say_what_they_are_and_hold_each_name_once(name: str) -> None:
    names = read_list(name)
    assert len(names) > 1_000 and all(names) and len(set(names)) == len(names)
