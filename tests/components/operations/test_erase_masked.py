"""Who was masked is found by name: erasure reaches documents that do not tell the person any more."""

import base64
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from components.common.documents import DocumentWriter, new_document, read_table
from components.common.environment import Environment, load_environment
from components.common.errors import HeadraceError
from components.common.keys import erasure_key, subject_key
from components.common.ledger import Ledger
from components.common.store import open_store
from components.common.tombstones import Tombstones
from components.data.mask import options as masking
from components.data.mask.options import IDENTIFYING, Mask
from components.data.mask.patterns import find
from components.data.mask.personal import Masker
from components.data.mask.reveal import reveal
from components.operations.erase.certificate import certify
from components.operations.erase.ground import Kind, Place
from components.operations.erase.match import Identifier, Matcher, readings
from components.operations.erase.request import Request, seal
from components.operations.erase.work import Erasure, erase, look, open_request, replay
from pipelines.single import run_single
from tests.benchmarks.labelled import Language, sentences

KEY = bytes(range(32))

ENGLISH = """The district heating plant was inspected in the first week of the month. Both circulation pumps ran without
vibration, the pressure at the outlet stayed within its limits, and the log of the controller shows no alarm since the
seal was replaced. {} Spare parts for the older pump are kept in the store behind the boiler room, and whoever takes one
writes it down in the list beside the door so that it can be ordered again before winter."""
OTHER = """A library for reading old file formats has to decide what to do with a file that ends too early. This one
keeps what was complete, says how many records are missing, and leaves the decision to whoever called it. {} Its tests
cut real files at every byte and check that nothing is invented, which found two mistakes that nobody had noticed."""
KOREAN = """지난주에 지역 난방 설비를 점검했습니다. 순환 펌프 두 대는 모두 진동 없이 돌았고 출구 압력도 정해진 범위를
벗어나지 않았습니다. 밀봉을 교체한 뒤로 제어기 기록에는 경보가 남아 있지 않습니다. {} 오래된 펌프의 부품은 보일러실
뒤 창고에 보관하며, 꺼내 간 사람은 문 옆의 목록에 적어 겨울이 오기 전에 다시 주문할 수 있게 합니다."""
PEOPLE = {
    "mail.md": ENGLISH.format("Questions go to Kim.Cheolsu [at] Bank.KR at any time."),
    "call.md": KOREAN.format("문의는 010-2345-6789로 하시면 됩니다."),
    "bank.md": OTHER.format("Donations go to account number 110-234-567890 until the end of the year."),
    "other.md": OTHER.format("It is kept by someone.else@bank.kr and friends.").replace("library", "package"),
}
OTHERWISE = ["KIM.CHEOLSU@bank.kr", "+82 (0)10 2345 6789", "110234567890"]
"""The same identifiers, in none of the forms in which they stand in the documents."""


def document(name: str, text: str, language: str = "en") -> dict[str, object]:
    return new_document(
        source="site",
        url=name,
        text=text,
        language=language,
        license="MIT",
        retrieved_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def masked(place: Environment, folder: Path, texts: dict[str, str], **options: str) -> Path:
    """Mask documents, and lose everything in which a person still stands."""
    with DocumentWriter(folder / "raw") as writer:
        writer.write(document(name, text, "ko" if name == "call.md" else "en") for name, text in texts.items())
    made = {"masked": folder / "masked", "originals": folder / "originals"}
    run_single("data/mask", {"documents": folder / "raw"}, made, options, place)
    shutil.rmtree(folder / "raw")
    return folder / "masked"


def opened(place: Environment, *identifiers: str) -> Erasure:
    request = Request(reference="DSR-1", identifiers=list(identifiers))
    return open_request(place, seal(request, erasure_key(place).public_key()))


def urls(folder: Path) -> set[str]:
    return {row["url"] for row in read_table(folder).to_pylist()}


def test_a_masked_document_is_erased_everywhere_by_another_spelling(tmp_path: Path) -> None:
    place = load_environment("local", tmp_path / "home")
    made = tmp_path / "home" / "artifacts" / "run-1"
    folder = masked(place, made, PEOPLE)
    for step, name, options in (
        ("filter", "kept", {}),
        ("deduplicate", "unique", {}),
        ("decontaminate", "clean", {}),
        ("mix", "mixed", {}),
        ("card", "dataset", {"owner": "me"}),
    ):
        run_single(f"data/{step}", {"documents": folder}, {name: made / name}, options, place)
        folder = made / name
        assert urls(folder) == set(PEOPLE), f"{step} lost a document of this test"
    everything = "".join(str(pq.read_table(path).to_pylist()) for path in made.rglob("*.parquet"))
    assert not re.search("cheolsu|2345|234-?56|someone", everything, re.IGNORECASE)

    erasure = opened(place, *OTHERWISE)
    erase(erasure)
    assert look(erasure).places == {}
    store, ledger = open_store(place.store), Ledger(open_store(place.store), Path(place.signing_key))
    [part] = [key for key in store.list("datasets/") if key.endswith(".parquet")]
    store.download(part, tmp_path / "left" / "part-00000.parquet")
    assert urls(tmp_path / "left") == {"other.md"}
    assert not list(made.rglob("*.parquet")), "what a run left goes as a whole"
    assert ledger.verify() == []
    stated = certify(place, erasure.name, [])[1]
    assert (stated["records"], stated["found_afterwards"]) == (3, 0)
    assert list(stated["sources"]) == ["site"]

    outputs = {"masked": made / "again", "originals": made / "sealed"}
    run_single("data/mask", {"documents": tmp_path / "left"}, outputs, {}, place)
    assert replay(place) == [erasure.name], "and nothing of the others goes with it later"
    assert urls(made / "again") == {"other.md"}


def test_whose_masked_text_reads_the_same_stays(tmp_path: Path) -> None:
    place = load_environment("local", tmp_path / "home")
    text = "A call came from {} at night."
    texts = {"hers.md": text.format("010-2345-6789"), "his.md": text.format("010-9876-5432")}
    folder = masked(place, tmp_path / "home" / "artifacts" / "run-1", texts)
    run_single("data/card", {"documents": folder}, {"dataset": tmp_path / "dataset"}, {"owner": "me"}, place)
    assert len(set(read_table(folder)["text"].to_pylist())) == 1
    erasure = opened(place, "01023456789")
    erase(erasure)
    assert look(erasure).places == {}
    [part] = [key for key in open_store(place.store).list("datasets/") if key.endswith(".parquet")]
    open_store(place.store).download(part, tmp_path / "left" / "part-00000.parquet")
    assert urls(tmp_path / "left") == {"his.md"}


def test_sealed_originals_of_a_person_go_with_the_person(tmp_path: Path) -> None:
    place = load_environment("local", tmp_path / "home")
    key = X25519PrivateKey.generate()
    public = base64.b64encode(key.public_key().public_bytes_raw()).decode()
    hers, his = ({name: text for name, text in PEOPLE.items() if (name == "call.md") is hers} for hers in (True, False))
    for name, texts in (("hers", hers), ("his", his)):
        masked(place, tmp_path / name, texts, reversible_to=public)
    ids = {
        row["url"]: row["id"] for name in ("hers", "his") for row in read_table(tmp_path / name / "masked").to_pylist()
    }
    [before] = reveal(place, ids["call.md"], key, "test")
    assert before.originals == {"[PHONE_1]": ["010-2345-6789"]}
    for left in ("masked", "originals"):  # whatever is left of the two leads to her
        erasure = opened(place, "+82 10 2345 6789")
        assert Place(Kind.ARTIFACT, f"file://{tmp_path}/hers/{left}") in look(erasure).places
        if left == "masked":
            shutil.rmtree(tmp_path / "hers" / "masked")
    erase(erasure)
    assert look(erasure).places == {}
    assert not list((tmp_path / "hers").rglob("*.parquet"))
    with pytest.raises(HeadraceError, match="nothing is kept"):
        reveal(place, ids["call.md"], key, "test")
    [other] = reveal(place, ids["mail.md"], key, "test")
    assert other.originals == {"[EMAIL_1]": ["Kim.Cheolsu [at] Bank.KR"]}


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_request_names_what_masking_named_however_it_is_spelled(language: Language) -> None:
    seen: set[masking.Kind] = set()
    for sentence in sentences("fresh", language, 400):
        for finding in find(sentence.text, Mask().kinds, keep_examples=False):
            if finding.kind in IDENTIFYING:
                seen.add(finding.kind)
                written = sentence.text[finding.start : finding.end]
                others = [re.sub(r"[\s.()-]", "", written), f" {written.replace('-', ' ')} "]
                for spelling in (written, *([written.upper()] if finding.kind == "email" else others)):
                    assert Identifier(finding.kind, finding.canonical) in readings(spelling), sentence.text
    assert seen >= {"email", "phone", "passport", "bank_account", "card", "resident_number"}


@pytest.mark.parametrize(
    ("text", "asked", "found"),
    [
        ("메일은 Hong.Gildong@Naver.com으로", "hong.gildong@naver.com", True),
        ("hong (at) corp [dot] com", "Hong@corp.com", True),
        ("_hong@corp.com_ or -hong@corp.com", "hong@corp.com", True),
        ("tel:+82-10-1234-5678", "01012345678", True),
        ("０１０－１２３４－５６７８번", "+82 10 1234 5678", True),
        ("010.1234.5678", "0082-10-1234-5678", True),
        ("02) 123-4567", "+82 2 123 4567", True),
        ("02-123-4567", "021234567", True),
        ("call 415.555.2671 now", "+1 (415) 555-2671", True),
        ("+1 415-555-2671", "4155552671", True),
        ("+44 20 7946 0958", "442079460958", True),
        ("(020) 7946 0958", "+44 (0)20 7946 0958", True),
        ("+33 6 12 34 56 78", "33612345678", True),
        ("주민등록번호 901201-1234567", "9012011234567", True),
        ("여권번호 m12345678", "M1234 5678", True),
        ("국민은행 110-234-567890으로", "110 234 567890", True),
        ("IBAN NL91 ABNA 0417 1643 00", "nl91abna0417164300", True),
        ("카드 4111-1111-1111-1111", "4111111111111111", True),
        ("면허번호 11-12-123456-01", "111212345601", True),
        ("010-1234-5678", "010-1234-5679", False),
        ("hong@corp.com", "hong@corp.co", False),
        ("031-2123-4567", "02-123-4567", False),
        ("서버 121.134.5.6", "121.134.5.6", False),
        ("사업자 124-81-00998", "124-81-00998", False),
    ],
)
def test_a_name_agrees_with_every_way_to_write_it(text: str, asked: str, found: bool) -> None:
    masker = Masker(Mask().kinds)
    left = masker.mask(text)
    row = {"subjects": sorted(masker.subjects(KEY))}
    matcher = Matcher(Tombstones(KEY), readings(asked))
    assert matcher.is_named_by(row) is found
    assert not matcher.is_person_in(left), "only the name tells"
    assert matcher.is_person_in(text) or not found, "and before masking the text does"


def test_no_number_of_somebody_else_is_taken_for_the_persons() -> None:
    def told(text: str, *asked: str) -> bool:
        return Matcher(Tombstones(KEY), frozenset().union(*map(readings, asked))).is_person_in(text)

    assert told("대표 02-123-4567, 82-2-123-4567", "02-123-4567") and told("2-123-4567", "02-123-4567")
    assert told("사업자번호 124 81 00998", "124-81-00998") and told("passport m 1234-5678", "M12345678")
    assert not told("031-2123-4567", "02-123-4567") and not told("031) 2123-4567", "02-123-4567")
    assert told("계좌 110234567890", "110-234-567890") and not told("계좌 9110234567890", "110-234-567890")


def test_names_are_the_key_s(tmp_path: Path) -> None:
    here, there = (load_environment("local", tmp_path / name) for name in ("here", "there"))
    first, again, elsewhere = (
        read_table(masked(place, tmp_path / folder, PEOPLE))
        for place, folder in ((here, "one"), (here, "two"), (there, "three"))
    )
    assert first.equals(again)
    assert all(first["subjects"].to_pylist())
    assert not {name for names in first["subjects"].to_pylist() for name in names} & {
        name for names in elsewhere["subjects"].to_pylist() for name in names
    }
    assert first.drop_columns("subjects").equals(elsewhere.drop_columns("subjects"))
    assert subject_key(here) != subject_key(there)
