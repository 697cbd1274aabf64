"""Personal data is found in English and Korean, masked whole, and nothing else is touched."""

import re
import string
from itertools import pairwise

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from components.common import subjects
from components.common.documents import part_files, read_table, text_revision
from components.common.errors import HeadraceError
from components.common.keys import subject_key
from components.common.step import Context
from components.common.tombstones import Tombstones
from components.data.mask.detector import Finding, plain
from components.data.mask.options import Mask
from components.data.mask.patterns import find, has_business_checksum, has_luhn_checksum, has_resident_checksum
from components.data.mask.people import People
from components.data.mask.personal import Masker, run
from components.operations.erase.match import Matcher, readings
from pipelines.single import run_single
from tests.benchmarks.faked import faked
from tests.benchmarks.judging import judge
from tests.benchmarks.labelled import RULES, Language, sentences

KINDS = Mask().kinds


def mask(text: str, **options) -> str:
    return Masker(options.pop("kinds", KINDS), **options).mask(text)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("연락처는 010-1234-5678로 주세요", "연락처는 [PHONE_1]로 주세요"),
        ("전화번호01012345678입니다", "전화번호[PHONE_1]입니다"),
        ("여권번호 M12345678로 예약", "여권번호 [PASSPORT_1]로 예약"),
        ("국민은행 123456-01-123456으로 입금", "국민은행 [BANK_ACCOUNT_1]으로 입금"),
        ("주문 123456-01-123456을 확인", "주문 123456-01-123456을 확인"),
        ("IBAN NL91 ABNA 0417 1643 00, NL91 ABNA 0417 1643 01", "IBAN [BANK_ACCOUNT_1], NL91 ABNA 0417 1643 01"),
        ("배송지는 서울특별시 강남구 테헤란로 152, 101동 1203호입니다", "배송지는 [ADDRESS_1]입니다"),
        ("She lives at 12 Elm Street, Boulder, CO 80301.", "She lives at [ADDRESS_1]."),
        ("12 Angry Men Drive is a film; 학교로 10분", "12 Angry Men Drive is a film; 학교로 10분"),
        ("password: Tiger!482x, password: changeme", "password: [SECRET_1], password: changeme"),
        ("redis://app:s3cr3t-Pa55@cache:6379", "redis://app:[SECRET_1]@cache:6379"),
        ("배송지는 부산 북구 만덕3거리 12 가람빌라 나동 302호입니다", "배송지는 [ADDRESS_1]입니다"),
        ("Ship to:\n7 Elm Mdws Apt. 3\nWest Boulder, CO 80301\nby noon", "Ship to:\n[ADDRESS_1]\nby noon"),
        ("Flat 9, Abbey Row, Leeds, LS1 4AP", "[ADDRESS_1]"),
        ("9 Oak Stravenue, see below", "9 Oak Stravenue, see below"),
        ("PSC 1241, Box 5868, APO AP 25384", "[ADDRESS_1]"),
        ("password: %x5X5f(mvk_q, password: get_secret(x1)", "password: [SECRET_1], password: get_secret(x1)"),
        ("17,4111111111111111,01012345678,ok", "17,[CARD_1],[PHONE_1],ok"),
        ("tel:+82-10-1234-5678, 02) 123-4567", "tel:[PHONE_1], [PHONE_2]"),
        ("(0113) 496 0123 = +44 113 496 0123; 020 7946 0958", "[PHONE_1] = [PHONE_1]; [PHONE_2]"),
        ('"phone": "01134960123", 0113 4960 units', '"phone": "[PHONE_1]", 0113 4960 units'),
        ("010-1234-5678 = +82 10 1234 5678", "[PHONE_1] = [PHONE_1]"),
        ("０１０－１２３４－５６７８ 또는 010–1234–5679", "[PHONE_1] 또는 [PHONE_2]"),
        ("call +1 (415) 555-2671 or 415.555.2672 in 2024", "call [PHONE_1] or [PHONE_2] in 2024"),
        ("+33 6 12 34 56 78 2024", "[PHONE_1]"),
        ("+442079460958.", "[PHONE_1]."),
        ("주민등록번호 901201-1234567입니다", "주민등록번호 [RESIDENT_NUMBER_1]입니다"),
        (
            "외국인 900101 - 5123456, 2020년 이후 211011-3123456",
            "외국인 [RESIDENT_NUMBER_1], 2020년 이후 [RESIDENT_NUMBER_2]",
        ),
        ("주민번호8001011234560을", "주민번호[RESIDENT_NUMBER_1]을"),
        ("카드 4111-1111-1111-1111을 4111 1111 1111 1111 123", "카드 [CARD_1]을 [CARD_1] 123"),
        ("amex 3782 822463 10005; 378282246310005", "amex [CARD_1]; [CARD_1]"),
        ("메일은hong.gildong@naver.com으로", "메일은[EMAIL_1]으로"),
        ("A <a.b+c@Sub.Corp.co.kr>, o'brien@corp.io.", "A <[EMAIL_1]>, [EMAIL_2]."),
        ("hong [at] corp (dot) com; hong@corp.com", "[EMAIL_1]; [EMAIL_1]"),
        ("x@y.com010-1234-5678", "[EMAIL_1][PHONE_1]"),
        ("192.168.0.17에서 10.20.30.40:8080 <td>121.134.5.6</td>", "[IP_1]에서 [IP_2]:8080 <td>[IP_3]</td>"),
        ("2001:4860:4860::8888 fe80::1ff:fe23:4567:890a%eth0", "[IP_1] [IP_2]%eth0"),
        ("2024-11-24 010-1234-5678", "2024-11-24 [PHONE_1]"),
        ("a@b.io b@b.io a@b.io A@B.io", "[EMAIL_1] [EMAIL_2] [EMAIL_1] [EMAIL_1]"),
        ("사업자등록번호 124-81-00998입니다", "사업자등록번호 [BUSINESS_NUMBER_1]입니다"),
        ("운전면허11-19-123456-01로", "운전면허[DRIVING_LICENCE_1]로"),
        ("key=" + "AKIA" + "Z7QK3M2XW5TB9RJP", "key=[SECRET_1]"),
        ("토큰은 " + "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8입니다", "토큰은 [SECRET_1]입니다"),
        ("[EMAIL_7] and a@b.io", "[EMAIL_7] and [EMAIL_8]"),
    ],
)
def test_found_and_masked_whole(text, masked):
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "version 1.2.3.4, v10.20.30.40, foo==1.10.20.30, torch-2.13.0.14-cp311.whl, 1.3.6.1.4.1.311",
        "3.14159265358979 +1.23456789 -0.01012345678 1e-10101010101 1,234,567,890",
        "550e8400-e29b-41d4-a716-446655440000 d41d8cd98f00b204e9800998ecf8427e 9d4111111111111111",
        "ISBN 978-0-13-110362-7 9780131103627, EAN 8801234567890",
        "1700000000000 1700000000000000 20240101123456 2024-01-01T12:34:56+09:00",
        "4111 1111 1111 1112 4111111111111112 0000 0000 0000 0000",
        "991301-1234567 901232-1234567 123456-7890123 9012011234567890",
        "std::vector<a::b> x[1::2] 12:34:56 aa:bb:cc:dd:ee:ff dead::beef ::",
        "DFARS 252.227-7013, https://doi.org/10.1111/0081-1750.00098, 256-512-1024-2048",
        "lodash@4.17.21 icon@2x.png @decorator.foo a@b git@github.com:org/repo.git x @ self.weight",
        "01010101010 010-12-345 1588-1234 2026-11-24 10:20:30",
        "124-81-00997 978-124-81-00998 124-81-00998-1 29-19-123456-01 11-19-123456-01-2 PO-124-81-00998",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx AKIAIOSFODNN7EXAMPLE sk-learn",
        "sk-proj-your-api-key-goes-in-this-place-here",
        "[EMAIL_1] [PHONE_12] [RESIDENT_NUMBER_3]",
    ],
)
def test_what_only_looks_like_it_stays(text):
    assert mask(text) == text


def test_addresses_of_nobody_stay_unless_told_otherwise():
    text = "user@example.com a@b.test 127.0.0.1 192.0.2.7 2001:db8::1 255.255.255.0"
    assert mask(text) == text
    assert mask(text, keep_examples=False).count("[") == 6
    assert mask("user@notexample.com") == "[EMAIL_1]"


def test_only_the_kinds_asked_for_are_masked():
    text = "a@b.io 010-1234-5678"
    assert mask(text, kinds=["phone"]) == "a@b.io [PHONE_1]"
    assert mask(text, kinds=[]) == text


DIGITS = st.text("0123456789", min_size=4, max_size=4)
PHONES = st.builds(
    "{}{}{}{}{}".format, st.sampled_from(["010", "011", "+82-10", "+8210"]), st.just("-"), DIGITS, st.just("-"), DIGITS
)
EMAILS = st.builds(
    "{}@{}.{}".format,
    st.text(string.ascii_letters + string.digits, min_size=1, max_size=12),
    st.text(string.ascii_lowercase, min_size=2, max_size=10).filter(lambda name: name not in ("example", "test")),
    st.sampled_from(["com", "co.kr", "org", "io"]),
)
BIRTHDAYS = st.dates().map(lambda day: f"{day.year % 100:02d}{day.month:02d}{min(day.day, 28):02d}")
RESIDENTS = st.builds("{}-{}{}".format, BIRTHDAYS, st.integers(1, 8), st.text("0123456789", min_size=6, max_size=6))


def with_check_digit(digits: str) -> str:
    return next(digits + last for last in "0123456789" if has_luhn_checksum(digits + last))


CARDS = st.text("0123456789", min_size=14, max_size=14).map(lambda body: with_check_digit("4" + body))
CARDS = CARDS | CARDS.map(lambda card: "-".join(card[start : start + 4] for start in range(0, 16, 4)))
HOSTS = st.lists(st.integers(10, 200), min_size=4, max_size=4).filter(lambda parts: parts[0] not in (127,))
ADDRESSES = HOSTS.map(lambda parts: ".".join(map(str, parts))).filter(
    lambda text: not text.startswith(("192.0.2.", "198.51.100."))
)
BEFORE = st.sampled_from(
    ["", "전화: ", "연락처는 ", "메일은", "call ", "(", "\n", '"', "담당자 홍길동 ", "= ", "/", "，", "：", "|"]
)
AFTER = st.sampled_from(
    ["", "로 연락", "입니다.", "으로", " please", ")", "\n", '"', ", ", ".", "에서", "！", " 2024", "|"]
)
PERSONAL = PHONES | EMAILS | RESIDENTS | CARDS | ADDRESSES


@given(BEFORE, PERSONAL, AFTER)
def test_in_any_context_it_is_masked_and_nothing_of_it_is_left(before, personal, after):
    masked = mask(before + personal + after)
    assert re.fullmatch(re.escape(before) + r"\[[A-Z_]+_1\]" + re.escape(after), masked)


@given(st.lists(st.tuples(BEFORE, PERSONAL, AFTER), max_size=5))
def test_several_in_one_text_are_all_masked(parts):
    text = " ".join(before + personal + after for before, personal, after in parts)
    masked = mask(text)
    assert not any(personal in masked for _, personal, _ in parts)


NOISE = st.text("0123456789-. +()@:abcdefz[]_가é/\n０", max_size=60)


@given(NOISE | st.text())
@example("x@y.com01012345678")
@example("1-010-1234-5678@c.com")
def test_masking_again_changes_nothing(text):
    masked = mask(text)
    assert mask(masked) == masked


@given(NOISE | st.text())
def test_what_is_found_lies_in_order_inside_the_text(text):
    found = list(find(text, KINDS))
    assert all(0 <= finding.start < finding.end <= len(text) for finding in found)
    assert all(left.end <= right.start for left, right in pairwise(found))


@given(st.text(string.ascii_letters + string.whitespace + "가나다라마바사.,;!?#*`'\"(){}<>", max_size=200))
def test_words_without_numbers_and_at_signs_are_never_touched(text):
    assume("at" not in text.lower())
    assert mask(text) == text


def test_checksums_of_published_numbers():
    assert has_luhn_checksum("4111111111111111")
    assert not has_luhn_checksum("4111111111111112")
    assert has_business_checksum("1248100998")
    assert not has_business_checksum("1248100997")
    assert has_resident_checksum("8001011234560")
    assert not has_resident_checksum("8001011234561")


@pytest.fixture
def documents(document, written):
    return written(
        [
            document(
                "mail a@corp.com",
                "one",
                messages=[{"role": "user", "content": "c@corp.com and a@corp.com"}],
                metadata={"license_stated": "ask a@corp.com", "version": "10.20.30.40"},
            ),
            document("nothing", "two"),
            document("already [EMAIL_1]", "three", pii="masked"),
            document("declared clean, 010-1234-5678", "four", pii="none"),
        ]
    )


def test_messages_and_metadata_share_the_numbering_and_ids_stay(documents, tmp_path, environment):
    before = read_table(documents).to_pylist()
    outcome = run(documents, tmp_path / "out", tmp_path / "sealed", Mask(), Context("data/mask", environment))
    after = read_table(tmp_path / "out").to_pylist()
    assert [row["id"] for row in after] == [row["id"] for row in before]
    assert [row["pii"] for row in after] == ["masked", "none", "masked", "masked"]
    first = after[0]
    assert first["text"] == "mail [EMAIL_1]"
    assert first["revision"] == text_revision(first["text"])
    assert first["messages"] == [{"role": "user", "content": "[EMAIL_2] and [EMAIL_1]"}]
    assert dict(first["metadata"]) == {"license_stated": "ask [EMAIL_1]", "version": "10.20.30.40"}
    assert outcome.counts_in == outcome.counts_out == 4
    assert outcome.metrics == {"documents_masked": 2, "masked_email": 4, "masked_phone": 1}
    page = outcome.report.html()
    assert "Not looked for: person, place." in page
    assert "corp.com" not in page
    assert "1234-5678" not in page


def test_people_are_named_by_keyed_hashes_and_nobody_else_is(document, written, tmp_path, environment):
    before = written(
        [
            document(
                "mail a@corp.com, 010-1234-5678",
                messages=[{"role": "user", "content": "A@Corp.com"}],
                metadata={"author": "b@corp.com", "version": "10.20.30.40"},
            ),
            document(
                "me@example.com at 121.134.5.6, 12 Elm Street, Boulder, CO 80301, 124-81-00998, ghp_" + "aB3" * 12
            ),
            document("again [EMAIL_1]", subjects=["f" * 40, "0" * 40]),
            document("again c@corp.com", subjects=["f" * 40]),
        ]
    )
    run(before, tmp_path / "out", tmp_path / "sealed", Mask(), Context("data/mask", environment))
    names = read_table(tmp_path / "out")["subjects"].to_pylist()

    def name(kind: str, canonical: str) -> str:
        return subjects.subject(subject_key(environment), kind, canonical)

    assert names[0] == sorted([name("email", "a@corp.com"), name("email", "b@corp.com"), name("phone", "01012345678")])
    assert names[1] == [], "examples and machines are nobody, and of a secret nothing is kept"
    assert names[2] == ["0" * 40, "f" * 40]
    assert names[3] == sorted(["f" * 40, name("email", "c@corp.com")])


def test_a_whole_name_names_and_a_part_does_not() -> None:
    names = [("김철수", "김철수"), ("김", "김 부장"), ("Ada Lovelace", "Ada Lovelace"), ("이", "이 과장")]
    text = ", ".join(written for _, written in names)
    findings = [
        Finding(start := text.index(written), start + len(name), "person", plain(name)) for name, written in names
    ]
    masker = Masker(["person"], people=People(one.canonical for one in findings))
    assert masker.mask(text, findings) == "[PERSON_1], [PERSON_1] 부장, [PERSON_2], [PERSON_3] 과장"
    key = bytes(32)
    assert masker.subjects(key) == {subjects.subject(key, subjects.WORDS, name) for name in ("김철수", "ada lovelace")}
    row = {"subjects": masker.subjects(key)}
    assert all(Matcher(Tombstones(key), readings(name)).is_named_by(row) for name in (" 김철수", "ADA  Lovelace"))
    assert not Matcher(Tombstones(key), readings("Ada King")).is_named_by(row)


def test_every_whole_name_names_the_person_with_and_without_dots() -> None:
    text = "Ada Novak is Ada M. Novak"
    findings = [Finding(0, 9, "person", "ada novak"), Finding(13, 25, "person", "ada m novak")]
    masker = Masker(["person"], people=People(one.canonical for one in findings))
    assert masker.mask(text, findings) == "[PERSON_1] is [PERSON_1]"
    row = {"subjects": masker.subjects(bytes(32))}

    def names(asked: str) -> bool:
        return Matcher(Tombstones(bytes(32)), readings(asked)).is_named_by(row)

    assert names("Ada Novak") and names("Ada M. Novak") and names("ada m novak")
    assert not names("M. Novak") and not names("ada.novak"), "a part of a name, and a user name"


def test_the_report_counts_by_language_and_quotes_nothing(document, written, tmp_path, environment) -> None:
    rows = [
        document("mail a@corp.com to Elena", "one", language="en-GB"),
        document("전화 010-1234-5678 김철수", "two"),
        document("nothing in Latin letters", "three"),
        document("12345", "four"),
    ]
    outcome = run(written(rows), tmp_path / "out", tmp_path / "sealed", Mask(), Context("data/mask", environment))
    page = outcome.report.html()
    lines = [re.sub(r"<[^>]+>|\s+", " ", row).split() for row in re.findall(r"<tr>.*?</tr>", page, re.DOTALL)]
    start = lines.index(["language", "documents", "with", "masks", "email", "phone"])
    assert lines[start + 1 : start + 5] == [
        ["Hangul", "1", "1", "0", "1"],
        ["Latin", "script", "1", "0", "0", "0"],
        ["en-GB", "1", "1", "1", "0"],
        ["other", "script", "1", "0", "0", "0"],
    ]
    assert not [word for word in ("Elena", "김철수", "corp.com", "1234-5678", "전화") if word in page]


def test_on_a_cluster_without_the_key_nothing_is_masked(documents, tmp_path, environment):
    place = environment.model_copy(update={"home": "", "keys": str(tmp_path / "keys")})
    with pytest.raises(HeadraceError, match=r"subjects\.key: No such file .* secret headrace-subjects"):
        run(documents, tmp_path / "out", tmp_path / "sealed", Mask(), Context("data/mask", place))
    assert not list((tmp_path / "out").rglob("*.parquet")) and not (tmp_path / "keys").exists()


def test_what_was_not_looked_for_is_not_declared_absent(documents, tmp_path, environment):
    run(documents, tmp_path / "out", tmp_path / "sealed", Mask(kinds=["phone"]), Context("data/mask", environment))
    assert read_table(tmp_path / "out")["pii"].to_pylist() == ["present", "present", "masked", "masked"]


def test_the_component_writes_the_same_bytes_every_time(documents, tmp_path, environment):
    parts = []
    for name in ("first", "second"):
        run_single(
            "data/mask",
            {"documents": documents},
            {"masked": tmp_path / name, "originals": tmp_path / f"{name}.sealed"},
            {},
            environment,
        )
        parts.append([part.read_bytes() for part in part_files(tmp_path / name)])
    assert parts[0] == parts[1]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_sentences_that_the_rules_were_not_written_for(language: Language) -> None:
    labelled = sentences("fresh", language, 400)
    found = [[(one.start, one.end, one.kind) for one in find(each.text, RULES, False)] for each in labelled]  # type: ignore[arg-type]
    score = judge(labelled, found, RULES, partly=True)
    assert score.f1() >= 0.97 and score.recall() >= 0.99, "\n".join(score.errors)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_data_that_another_library_makes(language: Language) -> None:
    labelled = faked(language, 400)
    found = [[(one.start, one.end, one.kind) for one in find(each.text, RULES, False)] for each in labelled]  # type: ignore[arg-type]
    score, exact = judge(labelled, found, RULES, partly=True), judge(labelled, found, RULES)
    assert score.f1() >= 0.97 and exact.f1() >= 0.95, "\n".join(exact.errors)
