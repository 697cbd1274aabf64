"""Postal addresses: Korean ones by road name or lot, English ones by number, street and town.

A Korean address needs a region that exists, or a flat behind the house; an English one a unit or a town behind the
street, or words that announce it. `학교로 10분` and `12 Angry Men Drive` have neither.
"""

import re

from components.data.mask.detector import NO_DIGIT, NO_LETTER, Detector, hangul, plain
from components.data.mask.lists import words_of

_PROVINCE = (
    "(?:서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|제주|충북|충남|전북|전남|경북|경남|충청[남북]도|전라[남북]도|경상[남북]도)"
    "(?:특별자치시|특별자치도|특별시|광역시|시|도)?"
)
_DISTRICT = "[가-힣]{1,4}[시군구]"
_TOWN = "(?:[가-힣]{1,4}[읍면] )?"
_HOUSE = " ?(?:지하 ?)?[0-9]{1,4}(?:-[0-9]{1,4})?"
_ROAD = f"[가-힣0-9.]{{1,9}}(?:로|길|거리)(?: ?[0-9]{{1,3}}번?[가-힣]?길)?{_HOUSE}"
_LOT = f"[가-힣]{{1,5}}[0-9]{{0,3}}[동리가](?: ?산)?{_HOUSE}(?: ?번지)?"
_RURAL_LOT = f"[가-힣]{{1,6}}(?:[읍면]|마을)(?: ?산)?{_HOUSE}(?: ?번지)?"
_UNIT = "(?:지하 ?)?[0-9A-Z]{1,4}[동층호]"
_BUILDING = "[가-힣A-Za-z0-9]{2,12}"
_NAMED = "[가-힣]{1,8}(?:파트|빌라|마을)"
_FLAT = f"(?:,? (?:{_BUILDING} )?(?:[가-힣]동 )?{_UNIT}(?:,? ?{_UNIT}){{0,2}}|,? {_NAMED})"
_NOTE = "(?: ?\\([가-힣0-9, ]{2,30}\\))?"
_REST = f"(?:{_NOTE}{_FLAT}|{_NOTE})"
_BY_PROVINCE = hangul(
    f"{_PROVINCE} ?(?:(?:{_DISTRICT} ){{0,2}}{_TOWN}(?:{_ROAD}|{_LOT})|(?:{_DISTRICT} ){{1,2}}{_RURAL_LOT}){_REST}"
)
_BY_DISTRICT = hangul(f"(?:{_DISTRICT} ){{1,2}}{_TOWN}(?:{_ROAD}|{_LOT}){_REST}")
_BY_FLAT = hangul(f"{_ROAD},? ?[0-9]{{1,4}}동 ?[0-9]{{1,4}}호{_NOTE}")

_MEASURES = re.compile(
    hangul(" ?(?:시간|분|명|개|원|월|일|년|배|회|차|번|시|호선|쪽|장|대|건|살|층|위|세|점)|[A-Za-z%0-9]|-[0-9]")
)


def _korean(match: re.Match[bytes], shadow: bytes) -> str:
    return "" if _MEASURES.match(shadow, match.end()) else "address"


def _in_known_district(written: str) -> str:
    return plain(written) if written.partition(" ")[0] in DISTRICTS else ""


_SUFFIXES = """
    Alley Aly Anex Anx Arcade Arc Avenue Ave Bayou Byu Beach Bch Bend Bnd Bluff Blf Bluffs Blfs Bottom Btm Boulevard
    Blvd Branch Br Bridge Brg Brook Brk Brooks Brks Burg Bg Burgs Bgs Bypass Byp Camp Cp Canyon Cyn Cape Cpe
    Causeway Cswy Center Ctr Centers Ctrs Circle Cir Circles Cirs Cliff Clf Cliffs Clfs Club Clb Common Cmn Commons
    Cmns Corner Cor Corners Cors Course Crse Court Ct Courts Cts Cove Cv Coves Cvs Creek Crk Crescent Cres Crest
    Crst Crossing Xing Crossroad Xrd Crossroads Xrds Curve Curv Dale Dl Dam Dm Divide Dv Drive Dr Drives Drs Estate
    Est Estates Ests Expressway Expy Extension Ext Extensions Exts Fall Falls Fls Ferry Fry Field Fld Fields Flds
    Flat Flt Flats Flts Ford Frd Fords Frds Forest Frst Forge Frg Forges Frgs Fork Frk Forks Frks Fort Ft Freeway
    Fwy Garden Gdn Gardens Gdns Gateway Gtwy Glen Gln Glens Glns Green Grn Greens Grns Grove Grv Groves Grvs Harbor
    Hbr Harbors Hbrs Haven Hvn Heights Hts Highway Hwy Hill Hl Hills Hls Hollow Holw Inlet Inlt Island Islands Iss
    Isle Junction Jct Junctions Jcts Key Ky Keys Kys Knoll Knl Knolls Knls Lake Lk Lakes Lks Land Landing Lndg Lane
    Ln Light Lgt Lights Lgts Loaf Lf Lock Lck Locks Lcks Lodge Ldg Loop Mall Manor Mnr Manors Mnrs Meadow Mdw
    Meadows Mdws Mews Mill Ml Mills Mls Mission Msn Motorway Mtwy Mount Mt Mountain Mtn Mountains Mtns Neck Nck
    Orchard Orch Oval Overpass Opas Park Parks Parkway Pkwy Parkways Pkwys Pass Passage Psge Path Pike Pine Pne
    Pines Pnes Place Pl Plain Pln Plains Plns Plaza Plz Point Pt Points Pts Port Prt Ports Prts Prairie Pr Radial
    Radl Ramp Ranch Rnch Rapid Rpd Rapids Rpds Rest Rst Ridge Rdg Ridges Rdgs River Riv Road Rd Roads Rds Route Rte
    Row Rue Run Shoal Shl Shoals Shls Shore Shr Shores Shrs Skyway Skwy Spring Spg Springs Spgs Spur Spurs Square Sq
    Squares Sqs Station Sta Stravenue Stra Stream Strm Street St Streets Sts Summit Smt Terrace Ter Throughway Trwy
    Trace Trce Track Trak Trafficway Trfy Trail Trl Trailer Trlr Tunnel Tunl Turnpike Tpke Underpass Upas Union Un
    Unions Uns Valley Vly Valleys Vlys Viaduct Via View Vw Views Vws Village Vlg Villages Vlgs Ville Vl Vista Vis
    Walk Walks Wall Way Ways Well Wl Wells Wls
    Close Gate Centre Harbour Quay Yard
"""
"""What streets are called, and its abbreviation: appendix C1 of Publication 28 of the United States Postal Service,
without `Is` for Island, which is a word; the last line is British."""

_NUMBER = rb"[0-9]{1,6}[A-Za-z]?(?:-[0-9]{1,4})? "
_NAME = (
    rb"(?:(?:[NSEW]|North|South|East|West)\.? )?(?:[A-Z][A-Za-z']{1,15} |[0-9]{1,3}(?:st|nd|rd|th) ){1,3}(?:"
    + "|".join(_SUFFIXES.split()).encode()
    + rb")\b"
)
_PART = rb"(?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|Flat|Studio|Room|Rm|#)\.? ?[0-9A-Z-]{1,6}[a-z]?"
_CODE = rb"(?:[A-Z]{2} [0-9]{5}(?:-[0-9]{4})?|[A-Z]{1,2}[0-9][0-9A-Z]? [0-9][A-Z]{2})"
_WITH_CODE = (
    rb"(?:\.?,?\n|\.?, )(?:[A-Z][A-Za-z.'-]{1,19}(?: [A-Z][A-Za-z.'-]{1,19}){0,2}(?:,?\n|,? )){0,2}" + _CODE + rb"\b"
)
_WITHOUT_CODE = rb"(?:\.?,(?: [A-Z][A-Za-z.]{1,14}){1,3})?(?:\.?,? " + _CODE + rb"|, [A-Z]{2}\b)?"
_ENGLISH = _NUMBER + _NAME + rb"(?:\.?,? " + _PART + rb")?(?:" + _WITH_CODE + rb"|" + _WITHOUT_CODE + rb")"
_PART_FIRST = _PART + rb"(?:, |\n)(?:" + _NUMBER + rb")?" + _NAME + _WITH_CODE
_MILITARY = (
    rb"(?:PSC [0-9]{1,5},? Box [0-9]{1,5}|Unit [0-9]{1,5},? Box [0-9]{1,5}|US(?:S|NS|NV|CGC) [A-Z][a-z]{2,15})"
    rb"(?:,? |,?\n)[ADF]PO,? A[AEP] [0-9]{5}"
)
_BOX = rb"P\.? ?O\.? Box [0-9]{1,6}(?:,(?: [A-Z][A-Za-z.]{1,14}){1,3}(?:,? [A-Z]{2} [0-9]{5})?)?"
_ROMANISED = (
    rb"[0-9]{1,4}(?:-[0-9]{1,4})?,? [A-Z][a-z]{1,15}-?(?:daero|ro|gil)(?: ?[0-9]{1,3}(?:beon)?-gil)?"
    rb", [A-Z][a-z]{1,12}-(?:gu|si|gun|dong)(?:, [A-Z][a-z]{1,15}(?:-(?:si|do|gu))?){0,2}"
)
_ANNOUNCED = re.compile(
    rb"(?i)address|\blives?\b|\bliving\b|located|\bship|deliver|\boffice|\bmail|\bsend|visit|\bat [^.]{0,12}$"
    rb"|reside|\bhome\b|\bmoved to\b|\bfrom $|street:"
)
_TAIL = re.compile(rb"\n|,|#|(?:Apt|Apartment|Suite|Ste|Unit)\b|[A-Z]{2} [0-9]{5}")


def _english(match: re.Match[bytes], shadow: bytes) -> str:
    if re.match(rb"[0-9A-Za-z_-]", shadow[match.end() :]):
        return ""
    before = shadow[max(0, match.start() - 40) : match.start()]
    return "address" if _TAIL.search(match[0]) or _ANNOUNCED.search(before) else ""


DISTRICTS = words_of(
    """
    강남구 강동구 강북구 강서구 관악구 광진구 구로구 금천구 노원구 도봉구 동대문구 동작구 마포구 서대문구 서초구
    성동구 성북구 송파구 양천구 영등포구 용산구 은평구 종로구 중구 중랑구 동구 서구 남구 북구 영도구 부산진구 동래구
    해운대구 사하구 금정구 연제구 수영구 사상구 기장군 수성구 달서구 달성군 군위군 미추홀구 연수구 남동구 부평구
    계양구 강화군 옹진군 광산구 유성구 대덕구 울주군 수원시 장안구 권선구 팔달구 영통구 성남시 수정구 중원구 분당구
    의정부시 안양시 만안구 동안구 부천시 원미구 소사구 오정구 광명시 평택시 동두천시 안산시 상록구 단원구 고양시
    덕양구 일산동구 일산서구 과천시 구리시 남양주시 오산시 시흥시 군포시 의왕시 하남시 용인시 처인구 기흥구 수지구
    파주시 이천시 안성시 김포시 화성시 광주시 양주시 포천시 여주시 연천군 가평군 양평군 춘천시 원주시 강릉시 동해시
    태백시 속초시 삼척시 홍천군 횡성군 영월군 평창군 정선군 철원군 화천군 양구군 인제군 고성군 양양군 청주시 상당구
    서원구 흥덕구 청원구 충주시 제천시 보은군 옥천군 영동군 증평군 진천군 괴산군 음성군 단양군 천안시 동남구 서북구
    공주시 보령시 아산시 서산시 논산시 계룡시 당진시 금산군 부여군 서천군 청양군 홍성군 예산군 태안군 전주시 완산구
    덕진구 군산시 익산시 정읍시 남원시 김제시 완주군 진안군 무주군 장수군 임실군 순창군 고창군 부안군 목포시 여수시
    순천시 나주시 광양시 담양군 곡성군 구례군 고흥군 보성군 화순군 장흥군 강진군 해남군 영암군 무안군 함평군 영광군
    장성군 완도군 진도군 신안군 포항시 경주시 김천시 안동시 구미시 영주시 영천시 상주시 문경시 경산시 의성군 청송군
    영양군 영덕군 청도군 고령군 성주군 칠곡군 예천군 봉화군 울진군 울릉군 창원시 의창구 성산구 마산합포구 마산회원구
    진해구 진주시 통영시 사천시 김해시 밀양시 거제시 양산시 의령군 함안군 창녕군 남해군 하동군 산청군 함양군 거창군
    합천군 제주시 서귀포시 서울시 부산시 대구시 인천시 대전시 울산시 세종시
    """
)
"""Cities, counties and districts of Korea, 2026."""

_KOREAN = rb"\x80-\xff"
DETECTORS = (
    Detector("address", _KOREAN, _BY_PROVINCE, _korean, NO_DIGIT, plain),
    Detector("address", _KOREAN, _BY_DISTRICT, _korean, NO_LETTER, _in_known_district),
    Detector("address", rb"0-9\x80-\xff", _BY_FLAT, _korean, NO_LETTER, plain),
    Detector("address", rb"0-9", _ENGLISH, _english, read=plain),
    Detector("address", rb"AFRSU#", _PART_FIRST, _english, read=plain),
    Detector("address", rb"PU", _MILITARY, read=plain),
    Detector("address", rb"0-9", _ROMANISED, _english, read=plain),
    Detector("address", rb"P", _BOX, read=plain),
)
