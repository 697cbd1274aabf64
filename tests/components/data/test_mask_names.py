"""People and places are found in English and Korean, masked as one wherever they are one, and only if asked for."""

import sys
from itertools import pairwise

import pytest

from components.common.documents import read_table
from components.common.errors import HeadraceError
from components.common.step import Context
from components.data.mask import english, korean
from components.data.mask.detector import Finding
from components.data.mask.lists import read_list
from components.data.mask.options import NAMES, RULES, Mask
from components.data.mask.people import People, _pieces, find_each
from components.data.mask.personal import Masker, run
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


@pytest.mark.parametrize("name", ["given_names.en.txt", "given_names.ko.txt", "places.en.txt", "places.ko.txt"])
def test_lists_say_what_they_are_and_hold_each_name_once(name: str) -> None:
    names = read_list(name)
    assert len(names) > 1_000 and all(names) and len(set(names)) == len(names)
