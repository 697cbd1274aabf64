"""People and places in Korean: rules over the words of a morphological tagger, Kiwi.

No Korean model of named entities comes in a package. Kiwi guesses well where an unknown word ends and its particles
begin; that it is a name is told by a surname, by syllables that given names are made of, and by what stands beside it:
a title, an honorific, a label, a particle that only people take.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from components.common.errors import HeadraceError
from components.data.mask.addresses import DISTRICTS
from components.data.mask.detector import Finding
from components.data.mask.lists import read_list, words_of

_COMMON_SURNAMES = words_of(
    "김 이 박 최 정 강 조 윤 장 임 한 오 서 신 권 황 안 송 류 유 홍 전 고 문 양 손 배 백 허 남 심 노 하 곽 성 "
    "차 주 우 구 민 진 나 지 엄 채 원 천 방 공 현 함 변 염"
)
"""Surnames of one in a thousand and more: Statistics Korea, census of 2015."""
_SURNAMES = _COMMON_SURNAMES | words_of(
    "여 추 도 소 석 선 설 마 길 연 위 표 명 기 반 라 왕 금 옥 육 인 맹 제 모 탁 국 어 은 편 용 예 경 봉 사 부 "
    "가 복 태 목 형 피 두 감 음 빈 동 온 호 범 좌 팽 승 간 상 시 갈 단 견"
)
_DOUBLE_SURNAMES = words_of("남궁 황보 제갈 사공 선우 서문 독고 동방")
_SYLLABLES = frozenset(
    "가강건겸경고공관광교구국권귀규균근금기길나남내녀노누다단달담대덕도동두득라람란랑래량려련령례로록롱루룡류륜률름리"
    "린림마만말매명모목무문미민바방배백범별병보복본봉부빈빛사산삼상새샘생서석선설섭성세소솔송수숙순술숭슬승시식신실심아"
    "안애양언여연열엽영예오옥온완요용우욱운웅원월위유윤율으은을음의이익인일임자장재전정제조종주준중지진집차찬창채천철"
    "청초춘충치탁태택평필하학한해행향헌혁현협형혜호홍화환황회효후훈휘휴희힘"
)
"""Syllables of given names, Sino-Korean and native."""

_PARTICLES = (
    "이|가|은|는|을|를|의|에게|에게서|께|께서|께서는|한테|한테서|과|와|이랑|랑|도|만|까지|부터|보다|처럼|이나|나|"
    "이고|고|이며|며|이다|다|고|며|입니다|입니까|이에요|예요|이라고|라고|이라는|라는|인|이와|하고|였다|이었다|씨|"
    "님"
)
_TITLES = (
    "씨|님|부장|차장|과장|대리|사원|주임|계장|팀장|실장|본부장|센터장|지점장|소장|원장|국장|처장|총장|학장|교장|"
    "교감|반장|조장|상무|전무|이사|사장|부사장|회장|부회장|의장|위원장|위원|대표|교수|박사|선생|강사|연구원|조교|"
    "학생|기자|작가|시인|감독|코치|선수|배우|가수|변호사|판사|검사|의사|간호사|약사|의원|장관|차관|대통령|총리|"
    "시장|군수|경찰관|경장|경사|경위|대위|소령|중령|대령|병장|상병|목사|신부|스님|매니저|비서|고객|환자|어머니|"
    "아버지|할머니|할아버지|어르신|여사|누나|언니|오빠|삼촌|이모|드림|올림|배상|귀하"
)
_TITLED = re.compile(rf" ?(?:{_TITLES})님?(?:(?:{_PARTICLES}){{1,2}})?(?![가-힣])")
_HONOURED = re.compile(r" ?(?:씨|님)(?:[이가은는을를과와도의,.?! ]|께|에게|$)")
_FONDLY = re.compile(r"이(?:가|는|도|를|랑|한테|야)(?![가-힣])")
"""Behind a given name that ends in a consonant; a noun would take one particle, not two."""
_LABEL = (
    "성명|이름|성함|작성자|승인자|검토자|담당자|담당|책임자|신청인|신청자|보호자|예금주|수신|발신|수신인|"
    "받는 사람|보내는 사람|저자|지은이|옮긴이|참석자|참가자|고객|고객명|환자|환자명|원고|피고|피고인|증인|회장|"
    "대표|대표이사|대표자|사장|이사|팀장|기자|글|검토|결재|승인|작성|보고자|당사자|가입자|피보험자|계약자|소유자|"
    "배우"
)
_TERMS = words_of(
    "문자열 정규식 고유명 이진수 정수형 배열형 지역화 차원수 조건문 반복문 주기억 보조금 공공재 한국인 조선인 "
    "이용자 사용자 이온화 정규화 이형태 최우선 방사선"
) | frozenset(f"{_TITLES}|{_LABEL}".split("|"))
"""Words that have the form of a name and that are none, though the tagger may take them for proper ones."""
_LABELS = re.compile(rf"(?:{_LABEL})[은는]?[\"']?(?: ?[:：|=/] ?[\"']?| )$")
_LISTED = re.compile(r"[가-힣][,·/] ?$")
_ENDED = re.compile(rf"(?:(?:{_PARTICLES}){{1,2}})?(?![가-힣])")
_OF_PEOPLE = re.compile(r"에게|께|한테|이?라고 합니다|(?:은|는|이|가) (?:말했|밝혔|주장했|물었|답했)")
_FOREIGN = re.compile(
    r"(?<![가-힣])(?P<name>[가-힣]{2,5}(?: [가-힣]{2,5})?)(?= ?(?:씨|님)(?:[이가은는을를과와도의,.?! ]|께|에게|$))"
)

_LOCATED = re.compile(
    r"에서 ?(?:[가-힣]+까지|태어|자라|살|왔|온|돌아|출발|만나|만났|열|근무)"
    r"|에 ?(?:살|사는|산다|거주|있는|다녀|갔|가서|가다|간다|가는|도착|위치|본사|지사|들렀|들러)"
    r"|에 ?(?:[가-힣]+ ?)?(?:비가|눈이)"
    r"|으?로 ?(?:이사|출장|여행|떠|갔|가는|간다|향|발령|이주|옮)|[을를] ?(?:방문|떠나|거쳐|여행)"
    r"|행 |까지 [0-9]|의 ?(?:날씨|수도|시장|주민|인구)|,? ?출신"
    r"| ?(?:지점|본사|지사|공장|출장|시청|도청|사무소|대회|본점|캠퍼스|주민)"
)
"""What stands behind a place."""
_WHERE = re.compile(r"(?:주소지|거주지|출생지|소재지|본적|고향|지역|도시|장소)[은는이가]?(?: ?[:：|=] ?| )$")
_LOCATIVE = re.compile(
    r"(?:특별시|광역시|특별자치[시도]|시|군|구|도)?(?:에|에서|에는|에서는|으로|로|까지|행|발)(?![가-힣])"
)
_REGIONS = words_of(
    "서울 부산 대구 인천 광주 대전 울산 경기 강원 충북 충남 전북 전남 경북 경남 제주 경기도 강원도 충청북도 "
    "충청남도 전라북도 전라남도 경상북도 경상남도 충청도 전라도 경상도 제주도 수도권 영남 호남 수원 고양 용인 "
    "창원 성남 청주 부천 남양주 천안 전주 안산 안양 김해 평택 포항 시흥 파주 의정부 김포 하남 군포 원주 춘천 "
    "강릉 속초 목포 여수 순천 광양 군산 익산 아산 충주 제천 통영 거제 양산 밀양 안동"
)
"""Provinces, and cities whose names are hardly ever something else: without a word beside them they are places."""
_STEMS = frozenset(
    stem for name in DISTRICTS for stem in (name[:-1], name[:-2]) if len(stem) >= 2 and stem + name[len(stem) :] == name
)
_SUFFIXED = re.compile(r"[가-힣]{2,4}(?:특별시|광역시|시|군|구|읍|면|동|리|도|산|강|섬|역|해변|해수욕장)")
_OFFICIAL = re.compile(r"(?<![가-힣])[가-힣]{2}(?:특별자치[시도]|특별시|광역시)")
_LANDSCAPE = re.compile(r"[산강시군구읍면동도]$")
_NOUNS = ("NNG", "NNP", "NNB", "XSN", "SL", "NR")


class _Token(NamedTuple):
    start: int
    end: int
    tag: str
    unknown: bool


_Exact = dict[tuple[int, int], _Token]


def find(texts: Sequence[str]) -> list[list[Finding]]:
    """Find people and places in Korean sentences, in order and without overlaps.

    Raises:
        HeadraceError: Kiwi is not installed.
    """
    return [
        _find(text, _tokens(analysed)) for text, analysed in zip(texts, _tagger().tokenize(list(texts)), strict=True)
    ]


def _tokens(analysed: Sequence[Any]) -> list[_Token]:
    return [_Token(one.start, one.start + one.len, one.tag, bool(one.oov)) for one in analysed if one.len]


def _find(text: str, tokens: Sequence[_Token]) -> list[Finding]:
    exact = {(one.start, one.end): one for one in tokens}
    found: list[Finding] = []
    for one in (*_people(text, tokens, exact), *_places(text, tokens)):
        if all(one.end <= other.start or one.start >= other.end for other in found):
            found.append(one)
    return sorted(found)


# People ----------------------------------------------------------------------------------------------


def _people(text: str, tokens: Sequence[_Token], exact: _Exact) -> Iterator[Finding]:
    for match in _FOREIGN.finditer(text):
        words = match["name"].split()
        for start in (match.start("name"), match.end("name") - len(words[-1])):
            end = match.end("name")
            inside = [one for one in tokens if start <= one.start and one.end <= end]
            named = any(one.tag == "NNP" or one.unknown for one in inside)
            native = _is_composed(words[-1]) or words[-1] in _TERMS or words[0].endswith("회사")
            if named and not native and all(one.tag in ("NNP", "NNG") for one in inside):
                yield Finding(start, end, "person", text[start:end])
                break
    for match in re.finditer("[가-힣]+", text):
        start, limit = match.span()
        if end := _full_name(text, start, limit, exact) or _part_of_name(text, start, limit, exact):
            yield Finding(start, end, "person", text[start:end])


def _full_name(text: str, start: int, limit: int, exact: _Exact) -> int:
    """Where a surname and a given name that begin here end, or 0."""
    for length in (4, 3) if text[start : start + 2] in _DOUBLE_SURNAMES else (3, 2):
        end = start + length
        name = text[start:end]
        if end > limit or not _is_composed(name) or name in _TERMS or name in _known_places():
            continue
        if end == limit and name[:-1] in _known_places() and name[-1] in "이은는가을를도로의과와만에":
            continue
        titled = _TITLED.match(text, end)
        if not titled and not _ENDED.match(text, end):
            continue
        announced = bool(titled or _LABELS.search(text[:start]) or _OF_PEOPLE.match(text, end))
        listed = bool(_LISTED.search(text[:start]) or re.match(r"[,·/] ?[가-힣]", text[end:]))
        token = exact.get((start, end))
        if token is None:  # the tagger may have taken a particle for a part of an unknown name
            token = next(
                (one for (first, _), one in exact.items() if first == start and one.unknown and one.end > end), None
            )
        if token is not None and not token.unknown and not announced and _LANDSCAPE.search(name):
            continue
        if announced and _is_phrase(exact, start, end) and ((start, end) in exact or not _is_attested(name)):
            continue
        taken = token is not None and (token.tag == "NNP" or token.unknown)
        crumbs = token is None and (announced or _is_crumbs(exact, start, end))
        if length == 2:
            loose = not titled or titled[0][0] in " 씨님"
            listed = listed and text[end : end + 1] in (",", "·", "/")
            if (announced and loose and (taken or crumbs)) or (listed and crumbs and _surname_stands(exact, start)):
                return end
        elif announced or ((taken or crumbs) and _is_attested(name)):
            return end
    return 0


def _is_phrase(exact: _Exact, start: int, end: int) -> bool:
    """Tell a word of the tagger's dictionary, alone or with a particle or an ending, that no name is."""
    inside = [one for (first, last), one in exact.items() if start <= first and last <= end and last - first > 1]
    return any(not one.unknown and (one.tag[0] in "JEV" or (one.start == start and one.tag != "NNP")) for one in inside)


def _is_attested(name: str) -> bool:
    """Tell a common surname with a given name that somebody bears."""
    surname = 2 if name[:2] in _DOUBLE_SURNAMES else 1
    return (surname == 2 or name[0] in _COMMON_SURNAMES) and name[surname:] in _given_names()


def _is_crumbs(exact: _Exact, start: int, end: int) -> bool:
    """Tell syllables that the tagger makes no word of."""
    inside = [one for (first, last), one in exact.items() if start <= first and last <= end]
    if sum(one.end - one.start for one in inside) != end - start or any(one.tag[0] in "VE" for one in inside):
        return False
    return all(one.end - one.start == 1 or one.start > start or one.tag == "NNP" for one in inside)


def _surname_stands(exact: _Exact, start: int) -> bool:
    surname = exact.get((start, start + 1)) or exact.get((start, start + 2))
    return surname is not None and surname.tag == "NNP"


def _is_composed(name: str) -> bool:
    """Tell what could be a surname and a given name."""
    surname = 2 if name[:2] in _DOUBLE_SURNAMES and len(name) > 2 else 1
    given = name[surname:]
    known = name[:surname] in _DOUBLE_SURNAMES or name[:surname] in _SURNAMES
    return known and 1 <= len(given) <= 2 and all(syllable in _SYLLABLES for syllable in given)


def _part_of_name(text: str, start: int, limit: int, exact: _Exact) -> int:
    """Where a surname before a title, or a given name before an honorific, ends, or 0."""
    word = text[start:limit]
    if (word in _SURNAMES or word in _DOUBLE_SURNAMES) and re.match(rf" (?:{_TITLES})", text[limit:]):
        token = exact.get((start, limit))
        return limit if token is not None and token.tag == "NNP" else 0
    end = start + 2
    if end > limit or not all(syllable in _SYLLABLES for syllable in text[start:end]):
        return 0
    token = exact.get((start, end)) or exact.get((start, end + 1))
    if text[start:end] in _known_places():
        return 0
    if re.match(r" 씨(?![가-힣]{2})", text[end:]) or (_FONDLY.match(text, end) and (start, end + 1) not in exact):
        return end
    if token is not None and token.tag != "NNP" and not token.unknown:
        return 0
    if _HONOURED.match(text, end):
        return end
    called = re.match(r"(?:이?(?:가|는|도|랑|를|한테|에게|야)|아)(?![가-힣])", text[end:])
    return end if token is not None and token.tag == "NNP" and token.unknown and called else 0


# Places ----------------------------------------------------------------------------------------------


def _places(text: str, tokens: Sequence[_Token]) -> list[Finding]:
    """Find places; a city and its district, or a province and its city, are one."""
    found: list[Finding] = []
    for one in sorted({*_single_places(text, tokens)}, key=lambda one: (one.start, -one.end)):
        if found and one.start < found[-1].end:
            continue
        if (
            found
            and text[found[-1].end : one.start] == " "
            and text[found[-1].end - 1] in "시도"
            and text[one.end - 1] in "시군구동읍면"
        ):
            one = Finding(found[-1].start, one.end, "place", text[found.pop().start : one.end])
        found.append(one)
    return found


def _single_places(text: str, tokens: Sequence[_Token]) -> Iterator[Finding]:
    for match in _OFFICIAL.finditer(text):
        yield Finding(*match.span(), "place", match[0])
    for number, token in enumerate(tokens):
        if token.tag not in ("NNP", "NNG"):
            continue
        start, end = token.start, token.end
        if token.unknown:  # the tagger may have taken a particle for a part of it
            for length in (4, 3, 2):
                if text[start : start + length] in _known_places() and _ENDED.match(text, start + length):
                    yield Finding(start, start + length, "place", text[start : start + length])
                    break
        following = tokens[number + 1 : number + 2]
        while following and following[0].start == end and _SUFFIXED.fullmatch(text[start : following[0].end]):
            end = following[0].end
            number += 1
            following = tokens[number + 1 : number + 2]
        name = text[start:end]
        attached = bool(following) and following[0].start == end and following[0].tag in _NOUNS
        if len(name) < 2 or (attached and not re.match(r"[행발](?![가-힣])", text[end:])):
            continue
        proper = token.tag == "NNP"
        located = bool(_LOCATED.match(text, end) or _WHERE.search(text[:start]))
        suffixed = _SUFFIXED.fullmatch(name) is not None
        if (
            (name in _REGIONS or name in DISTRICTS or (proper and name in _abroad()))
            or (
                (name in _STEMS or name in _abroad())
                and (proper or located)
                and (located or _LOCATIVE.match(text, end))
            )
            or (proper and suffixed and len(name) > 2 and not token.unknown and name[-1] in "산강동")
            or (proper and suffixed and len(name) > 2 and (located or _LOCATIVE.match(text, end)))
            or (proper and located and (token.unknown or not _is_composed(name)))
        ):
            yield Finding(start, end, "place", name)


@cache
def _given_names() -> frozenset[str]:
    return frozenset(read_list("given_names.ko.txt"))


@cache
def _abroad() -> frozenset[str]:
    return frozenset(read_list("places.ko.txt"))


@cache
def _known_places() -> frozenset[str]:
    return _REGIONS | DISTRICTS | _STEMS | _abroad()


@cache
def _tagger() -> Any:
    try:
        from kiwipiepy import Kiwi
    except ImportError as error:
        raise HeadraceError(
            "names in Korean need kiwipiepy, the extra `names`: run `make environment`; for a cluster, build the image "
            "`data` with NAMES=names"
        ) from error
    return Kiwi(num_workers=1)
