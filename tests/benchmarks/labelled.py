"""Sentences with personal data in them and where it stands, made from grammars: the set that masking is judged by.

Half of a language's sentences come from templates with slots for personal data, half from templates whose slots only
look like it: ISBNs, order numbers, hashes, versions, dates, parcels, code. `dev` and `test` share no template and no
lexicon (names, streets, towns): the rules were written against `dev`. `fresh` has templates that were written after the
rules, in one go, and that nothing was changed for; its lexicons are those of `test`.
"""

import base64
import hashlib
import random
import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from components.data.mask.patterns import has_business_checksum, has_luhn_checksum, has_resident_checksum

Split = Literal["dev", "test", "fresh"]
Language = Literal["en", "ko"]
RULES = (
    "email",
    "phone",
    "resident_number",
    "business_number",
    "driving_licence",
    "passport",
    "bank_account",
    "card",
    "ip",
    "address",
    "secret",
)
NAMES = ("person", "place")


@dataclass(frozen=True)
class Sentence:
    """A text and the personal data in it: `text[start:end]` is of the kind."""

    text: str
    language: Language
    spans: tuple[tuple[int, int, str], ...]


def sentences(split: Split, language: Language, count: int, seed: int = 0) -> list[Sentence]:
    """Make sentences, the same ones for the same arguments.

    Args:
        split: Which half of templates and lexicons.
        language: Language of the templates.
        count: How many; every second one holds no number, address or key of a person.
        seed: Seed of the choices.
    """
    chance = random.Random(f"{split} {language} {seed}")
    words = _Words(chance, split, language)
    positive, negative = _TEMPLATES[language, split], _NEGATIVES[language, split]
    made = []
    for number in range(count):
        templates = negative if number % 2 else positive
        made.append(fill(templates[number // 2 % len(templates)], words.make, language))
    return made


def fill(template: str, make: Callable[[str, str], str], language: Language) -> Sentence:
    """Put values into a template: `{kind}` and `{kind:form}` are personal data, `{=form}` looks like it or is neutral.

    A Korean particle behind a value is written in both forms, `<은/는>`: behind a final consonant, behind none.

    Args:
        template: A sentence with slots.
        make: From a slot's name and form to a value.
        language: Language of the template.
    """
    text, spans = "", []
    for literal, name, form, _ in string.Formatter().parse(template):
        text += _agree(text, literal.removeprefix(".") if text.endswith(".") else literal)
        if name is None:
            continue
        value = make(name, form or "")
        if not name.startswith("="):
            spans.append((len(text), len(text) + len(value.rstrip(".")), name))
        text += value
    return Sentence(text, language, tuple(spans))


def _agree(before: str, literal: str) -> str:
    """Choose the particle that fits the syllable before it."""
    if not (choice := re.match(r"<(\w+)/(\w+)>", literal)):
        return literal
    final = (ord(before[-1]) - ord("가")) % 28
    closed = final != 0 and not (final == 8 and choice[2] == "로")  # 서울로
    return choice[1 if closed else 2] + literal[choice.end() :]


class _Words:
    """Values of slots."""

    def __init__(self, chance: random.Random, split: Split, language: Language) -> None:
        self.chance, self.split, self.language = chance, split, language

    def make(self, name: str, form: str) -> str:
        return str(getattr(self, f"_{name.removeprefix('=')}")(*([form] if form else [])))

    def _pick(self, lexicon: str) -> str:
        split = "dev" if self.split == "dev" else "test"
        return self.chance.choice(_LEXICON[lexicon, split].split("|"))

    def _digits(self, count: str | int) -> str:
        return "".join(self.chance.choice("0123456789") for _ in range(int(count)))

    def _mixed(self, count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
        while True:
            made = "".join(self.chance.choice(alphabet) for _ in range(count))
            if len(set(made)) > min(9, count // 2) and any(c.isdigit() for c in made):
                return made

    def _shape(self, shape: str) -> str:
        """Digits for `#`, capitals for `A`, hexadecimal digits for `x`."""
        of = {"#": string.digits, "A": string.ascii_uppercase, "x": "0123456789abcdef"}
        return "".join(self.chance.choice(of[sign]) if sign in of else sign for sign in shape)

    def _shapes(self, *shapes: str) -> str:
        return self._shape(self.chance.choice(shapes))

    # Personal data

    def _email(self) -> str:
        user = self._pick("user")
        user += self.chance.choice(["", "", str(self.chance.randint(1, 99)), f".{self._pick('user')}"])
        return f"{user}@{self._pick('domain')}"

    def _phone(self, form: str = "") -> str:
        area = str(self.chance.randint(2, 9)) + self._digits(2)
        exchange = str(self.chance.randint(2, 9)) + self._digits(2)
        last, four = self._digits(4), str(self.chance.randint(2, 9)) + self._digits(3)
        korean = [
            f"010-{four}-{last}",
            f"010{four}{last}",
            f"010 {four} {last}",
            f"010.{four}.{last}",
            f"+82-10-{four}-{last}",
            f"+82 10 {four} {last}",
            f"02-{four}-{last}",
            f"031-{exchange}-{last}",
            f"051)-{exchange}-{last}".replace(")-", ") "),
            f"070-{four}-{last}",
        ]
        western = [
            f"({area}) {exchange}-{last}",
            f"{area}-{exchange}-{last}",
            f"{area}.{exchange}.{last}",
            f"+1 {area} {exchange} {last}",
            f"+1-{area}-{exchange}-{last}",
            f"+1 ({area}) {exchange}-{last}",
            f"+44 20 7{self._digits(3)} {last}",
            f"+49 30 {self._digits(8)}",
            f"+33 6 {self._digits(2)} {self._digits(2)} {self._digits(2)} {self._digits(2)}",
        ]
        korean_form = form == "ko" or (not form and self.language == "ko")
        return self.chance.choice(korean if korean_form else western)

    def _resident_number(self) -> str:
        year, month, day = self.chance.randint(50, 99), self.chance.randint(1, 12), self.chance.randint(1, 28)
        born = f"{year:02d}{month:02d}{day:02d}{self.chance.choice('1256')}"
        if self.chance.random() < 0.6:
            return f"{born[:6]}-{born[6:]}{self._digits(6)}"
        body = born + self._digits(5)
        return next(body + last for last in string.digits if has_resident_checksum(body + last))

    def _business(self) -> str:
        body = f"{self.chance.randint(101, 899)}{self.chance.randint(10, 89)}{self._digits(4)}"
        return next(body + last for last in string.digits if has_business_checksum(body + last))

    def _business_number(self, form: str = "") -> str:
        made = self._business()
        return made if form == "plain" else f"{made[:3]}-{made[3:5]}-{made[5:]}"

    def _driving_licence(self, form: str = "") -> str:
        made = f"{self.chance.randint(11, 28)}-{self._digits(2)}-{self._digits(6)}-{self._digits(2)}"
        return made.replace("-", "") if form == "plain" else made

    def _passport(self) -> str:
        if self.language == "en" and self.chance.random() < 0.3:
            return self._shape("A########")
        return self.chance.choice("MSR") + self._shapes("########", "###A####")

    def _bank_account(self, form: str = "") -> str:
        if form == "iban":
            country, shape = self.chance.choice(
                [("DE", "##################"), ("GB", "AAAA##############"), ("FR", "#######################")]
                if self.split == "dev"
                else [("NL", "AAAA##########"), ("ES", "####################"), ("IT", "A######################")]
            )
            body = self._shape(shape)
            number = int("".join(str(int(sign, 36)) for sign in body + country + "00"))
            made = f"{country}{98 - number % 97:02d}{body}"
            return made if self.chance.random() < 0.5 else " ".join(made[i : i + 4] for i in range(0, len(made), 4))
        if form == "us":
            return self._shapes("##########", "############", "#########")
        if form == "plain":
            return self._shapes("1###########", "3#############", "9############")
        return self._shapes(
            "######-##-######", "###-###-######", "1002-###-######", "###-######-#####", "###-####-####-##",
            "3333-##-#######", "1000-####-####", "###-######-##-###", "9003-####-####-#",
        )  # fmt: skip

    def _card(self) -> str:
        prefix, length = self.chance.choice([("4", 16), ("52", 16), ("55", 16), ("37", 15), ("6011", 16), ("3569", 16)])
        body = prefix + self._digits(length - 1 - len(prefix))
        made = next(body + last for last in string.digits if has_luhn_checksum(body + last))
        groups = (4, 6, 5) if length == 15 else (4, 4, 4, 4)
        cuts = [sum(groups[:n]) for n in range(len(groups) + 1)]
        separator = self.chance.choice(["", "-", " "])
        return separator.join(made[a:b] for a, b in pairwise(cuts))

    def _ip(self) -> str:
        if self.chance.random() < 0.25:
            return self._shape("2a0x:xxxx:xxx1::xxa#")
        first = self.chance.choice([10, 172, 121, 52, 211])
        return ".".join(str(part) for part in (first, *(self.chance.randint(11, 254) for _ in range(3))))

    def _address(self, form: str = "") -> str:
        number = self.chance.randint(2, 399)
        if self.language == "en":
            made = f"{number} {self._pick('street')} {self._pick('street kind')}"
            unit = self.chance.choice(["", "", f", {self._pick('unit')} {self.chance.randint(1, 40)}"])
            town, _, state = self._pick("town").partition(", ")
            tail = f", {town}, {state} {self._shape('1####') if state != 'London' else ''}".rstrip()
            return made + unit + ("" if form == "short" else tail)
        region = self._pick("region")
        house = self.chance.choice([f"{number}", f"{number}-{self.chance.randint(1, 40)}"])
        if form == "lot":
            made = f"{region} {self._pick('village')} {number}-{self.chance.randint(1, 90)}"
            return made + self.chance.choice(["", "번지"])
        made = f"{region} {self._pick('road')} {house}"
        block, room, floor = self.chance.randint(101, 120), self.chance.randint(101, 2504), self.chance.randint(2, 20)
        village = self._pick("village").split()[-1]
        ends = ["", "", f" {block}동 {room}호", f", {block}동 {room}호", f", {floor}층", f" ({village})"]
        return made + self.chance.choice(ends)

    def _secret(self, form: str = "") -> str:
        if form == "jwt":
            header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
            body = base64.urlsafe_b64encode(f'{{"sub":"{self._digits(8)}","n":1}}'.encode()).decode().rstrip("=")
            return f"{header}.{body}.{self._mixed(43)}"
        if form == "pem":
            lines = "\n".join(self._mixed(64) for _ in range(3))
            return f"-----BEGIN RSA PRIVATE KEY-----\n{lines}\n{self._mixed(20)}==\n-----END RSA PRIVATE KEY-----"
        if form == "password":
            core = self._pick("password word")
            sign, digits = self.chance.choice("!@#*_"), self._digits(self.chance.randint(2, 4))
            return f"{core.title()}{sign}{digits}{self.chance.choice(['', 'x', 'Q'])}"
        if form == "prefix":
            return self.chance.choice([
                f"AKIA{self._mixed(16, string.ascii_uppercase + string.digits)}",
                f"ghp_{self._mixed(36)}", f"hf_{self._mixed(34)}",
                f"glpat-{self._mixed(20)}", f"sk_live_{self._mixed(24)}", f"xoxb-{self._digits(11)}-{self._mixed(24)}",
            ])  # fmt: skip
        if form == "hex":
            return self._shape("x" * self.chance.choice([32, 40, 64]))
        return self._mixed(self.chance.choice([20, 24, 32, 40]))

    # Names

    def _person(self, form: str = "") -> str:
        if self.language == "ko" or form == "ko":
            return self._pick("korean surname") + (self._pick("korean given") if form != "surname" else "")
        if form == "surname":
            return self._pick("surname")
        return f"{self._pick('given')} {self._pick('surname')}"

    def _place(self) -> str:
        return self._pick("city" if self.language == "en" else "korean city")

    # What only looks like it

    def _isbn(self) -> str:
        body = "978" + self._shapes("89#######", "013######", "159######")
        total = sum(int(d) * (1, 3)[i % 2] for i, d in enumerate(body))
        made = f"{body}{-total % 10}"
        return self.chance.choice([made, f"{made[:3]}-{made[3:5]}-{made[5:9]}-{made[9:12]}-{made[12]}"])

    def _order(self) -> str:
        return self._shapes(
            "20261#0#-######", "ORD-20261#-#####", "#-####-####-##", "AA-########", "20261###########", "####-####-####"
        )

    def _tracking(self) -> str:
        return self._shapes(
            "1ZA##AA#########", "AA#########KR", "############", "####-####-####", "9400############5###"
        )

    def _sha(self) -> str:
        return hashlib.new(self.chance.choice(["md5", "sha1", "sha256"]), self._digits(9).encode()).hexdigest()

    def _uuid(self) -> str:
        return self._shape("xxxxxxxx-xxxx-4xxx-axxx-xxxxxxxxxxxx")

    def _version(self) -> str:
        return self._shapes("#.##.#", "v#.#.##", "1#.#.#.#", "#.#.#-rc#", "20#.#.#.##", "#.##.#+build.###")

    def _date(self) -> str:
        year, month, day = self.chance.randint(1990, 2029), self.chance.randint(1, 12), self.chance.randint(1, 28)
        return self.chance.choice([
            f"{year}-{month:02d}-{day:02d}", f"{year}.{month:02d}.{day:02d}", f"{year}{month:02d}{day:02d}",
            f"{year}-{month:02d}-{day:02d}T" + self._shapes("0#:1#:2#", "1#:4#:5#"),
            f"{year}/{month:02d}/{day:02d}",
        ])  # fmt: skip

    def _stamp(self) -> str:
        return self._shapes("17########", "17###########", "17##############")

    def _number(self) -> str:
        return self._shapes("#,###,###", "##.####", "3.14159########", "1##,###.##", "-0.########")

    def _part(self) -> str:
        return self._shapes("AA-####-##", "A##-#####-###", "##-###-####A", "###-##-####-##")


_LEXICON: dict[tuple[str, str], str] = {
    ("user", "dev"): "minsu|jane|h.kim|sales|contact|dev_team|o.brien|yuna",
    ("user", "test"): "gildong|robert|s-park|billing|first.last|ops|lucy_w|taeyang",
    ("domain", "dev"): "corp.io|naver.com|company.co.kr|mail.org|acme-tools.net",
    ("domain", "test"): "daum.net|startup.dev|univ.ac.kr|gmail.com|big-bank.co.uk",
    ("street", "dev"): "Maple|Oak Hill|Main|North Lake|Cedar|Washington|5th",
    ("street", "test"): "Elm|Sunset|Park View|East 42nd|Baker|Jefferson|River Bend",
    ("street kind", "dev"): "Street|Avenue|Road|St.|Blvd",
    ("street kind", "test"): "Street|Ave|Lane|Drive|Rd.|Boulevard",
    ("unit", "dev"): "Apt|Suite",
    ("unit", "test"): "Unit|Apt.",
    ("town", "dev"): "Springfield, IL|Austin, TX|San Jose, CA|Portland, OR",
    ("town", "test"): "Boulder, CO|Chicago, IL|New Haven, CT|Salt Lake City, UT",
    (
        "region",
        "dev",
    ): "서울특별시 강남구|경기도 성남시 분당구|부산 해운대구|대전광역시 유성구|서울 마포구|강원도 춘천시",
    (
        "region",
        "test",
    ): "서울시 종로구|경기 수원시 영통구|인천광역시 연수구|제주특별자치도 제주시|대구 수성구|전라북도 전주시 완산구",
    ("road", "dev"): "테헤란로|판교역로|해운대로|대학로 99번길|월드컵북로|중앙로",
    ("road", "test"): "세종대로|광교중앙로|송도과학로|연북로|달구벌대로 12길|효자로",
    ("village", "dev"): "역삼동|정자동|우동|상암동|어은동",
    ("village", "test"): "청운동|매탄동|송도동|아라이동|범어동",
    ("password word", "dev"): "summer|dragon|winter|apple",
    ("password word", "test"): "monkey|river|coffee|tiger",
    ("given", "dev"): "James|Mary|Wei|Priya|Carlos|Anna|David|Fatima|Linda|Kenji",
    ("given", "test"): "Robert|Patricia|Yuki|Omar|Elena|Thomas|Ingrid|Rajesh|Susan|Mateo|Nadia|George",
    ("surname", "dev"): "Smith|Johnson|Chen|Patel|Garcia|Novak|Miller|Haddad|Brown|Tanaka",
    ("surname", "test"): "Wilson|Anderson|Sato|Hassan|Petrova|Moore|Larsen|Gupta|Clark|Fernandez|Kowalski|Hughes",
    ("korean surname", "dev"): "김|이|박|최|정|강|윤|한|송|남궁",
    ("korean surname", "test"): "김|이|박|조|장|임|오|서|신|권|황|선우|유|문",
    ("korean given", "dev"): "민수|지영|서준|하은|영희|도윤|미경|재훈|수빈|현우|은",
    ("korean given", "test"): "철수|지훈|예진|성호|수연|동현|유진|혜린|태영|소희|준영|경아|민|다은",
    ("city", "dev"): "Berlin|Tokyo|Chicago|Paris|Busan|Toronto",
    ("city", "test"): "London|Madrid|Boston|Seoul|Sydney|Vienna|Denver",
    ("korean city", "dev"): "서울|부산|대전|수원|제주도|일본",
    ("korean city", "test"): "인천|광주|대구|춘천|강릉|미국|전주",
}


_TEMPLATES: dict[tuple[str, str], list[str]] = {
    ("en", "dev"): [
        "Please write to {email} or call {phone}.",
        "Contact: {person} <{email}>, tel {phone}",
        "My card number is {card} and it expires next month.",
        "The request came from {ip} at {=date}.",
        "Her passport number is {passport}.",
        "Passport No. {passport}, issued {=date}",
        "Wire the fee to IBAN {bank_account:iban} today.",
        "Account number: {bank_account:us}",
        "Ship it to {address} before Friday.",
        "She lives at {address}.",
        "password: {secret:password}",
        'api_key = "{secret}"',
        "export DB_PASSWORD={secret:password}",
        "Authorization: Bearer {secret:jwt}",
        "Deploy key leaked in the log: {secret:prefix}",
        "{secret:pem}",
        "Call me on {phone} after six, said {person}.",
        "Dr. {person:surname} answered the mail from {email} yesterday.",
        "The Korean resident number {resident_number} appears in the form.",
        "connection string postgres://app:{secret:password}@db.internal:5432/main",
        "token={secret:hex}",
        "Host {ip} refused the login of {email}; version {=version} was running.",
        "{person} moved from {place} to {place} last year.",
        "Our office is located at {address:short}.",
        "bank account {bank_account:us} belongs to {person}",
    ],
    ("en", "test"): [
        "You can reach me at {email}, or by phone: {phone}.",
        "Send invoices to {email} and copy {email}.",
        "From: {person} <{email}>",
        "Fax/phone {phone}, ask for {person}",
        "We charged {card} on {=date}.",
        "Card on file: {card} (Visa)",
        "Blocked client {ip} after 40 failed logins",
        "ssh root@{ip} still works from here",
        "Traveller holds passport {passport} and a visa.",
        "Please enter your passport number ({passport}) again.",
        "Beneficiary IBAN: {bank_account:iban}, reference {=order}",
        "My bank account number is {bank_account:us}.",
        "Refund went to acct no. {bank_account:us} yesterday",
        "Mail the contract to {address}, please.",
        "The patient's address is {address}.",
        "Deliver to: {address:short}",
        "The admin password is {secret:password}, change it.",
        "client_secret: {secret}",
        '{{"access_token": "{secret}", "expires_in": 3600}}',
        "AUTH_TOKEN={secret:hex}",
        "curl -H 'Authorization: Bearer {secret:jwt}' https://api.corp.io/v1",
        "key in the repository: {secret:prefix}",
        "The attached file contained {secret:pem}",
        "mysql://root:{secret:password}@10-db.internal/prod",
        "Registered under RRN {resident_number} in Korea.",
        "Emergency contact for {person} is {phone}.",
        "Mr. {person:surname} asked {person} for a refund in {place}.",
        "Yesterday {person} flew to {place} with two colleagues.",
        "The report was written by {person} and reviewed by {person}.",
        "Thanks,\n{person}\n{phone}",
        "Server moved from {ip} to {ip} last night.",
        "According to {person}, the offer in {place} expired.",
    ],
    ("ko", "dev"): [
        "연락처는 {phone}이고 이메일은 {email}입니다.",
        "담당자 {person} 과장({email}, {phone})에게 문의하세요.",
        "주민등록번호 {resident_number}를 입력했습니다.",
        "외국인등록번호는 {resident_number}입니다",
        "사업자등록번호 {business_number}로 세금계산서를 발행해 주세요.",
        "사업자번호: {business_number:plain}",
        "운전면허번호 {driving_licence}을 확인했습니다.",
        "면허번호는 {driving_licence:plain}입니다.",
        "여권번호 {passport}로 예약되었습니다.",
        "국민은행 {bank_account} (예금주 {person})로 입금 바랍니다.",
        "계좌번호는 {bank_account}입니다.",
        "신한은행 계좌 {bank_account:plain}으로 송금했습니다",
        "카드번호 {card}로 결제되었습니다.",
        "접속 IP {ip}에서 로그인했습니다.",
        "주소: {address}",
        "배송지는 {address}입니다.",
        "{address:lot}에 살고 있습니다.",
        "비밀번호는 {secret:password}입니다.",
        "API 키: {secret}",
        "토큰 값은 {secret:jwt} 입니다.",
        "로그에 {secret:prefix}가 남아 있었습니다.",
        "{person} 씨가 {place}에서 {person} 교수를 만났다.",
        "어제 {person}이 {place}로 이사했다.",
        "고객명 {person}, 전화 {phone}, 주소 {address}",
        "IBAN {bank_account:iban}으로 해외 송금",
    ],
    ("ko", "test"): [
        "문의사항은 {phone}로 전화 주시거나 {email}로 보내주세요.",
        "휴대폰 {phone}, 메일 {email}",
        "메일 주소가 {email}에서 {email}로 바뀌었습니다.",
        "주민번호 {resident_number}인 고객을 찾습니다.",
        "신분증에 적힌 {resident_number}를 가려 주세요.",
        "(주)한빛상사의 사업자등록번호는 {business_number}이며 대표는 {person}입니다.",
        "사업자 등록번호 {business_number:plain} 확인 부탁드립니다",
        "면허증 번호 {driving_licence}가 만료되었습니다.",
        "운전면허 {driving_licence:plain} 소지자",
        "여권 {passport}의 유효기간이 지났어요.",
        "여권번호({passport})와 영문 이름을 적어 주세요.",
        "우리은행 {bank_account}로 이체해 주세요.",
        "환불 계좌: 카카오뱅크 {bank_account} {person}",
        "{bank_account} 농협 {person}",
        "입금계좌 {bank_account:plain}을 확인해 주십시오.",
        "결제 카드 {card}의 승인이 취소되었습니다.",
        "신용카드({card})를 분실했습니다.",
        "서버 {ip}에서 {ip}로 요청이 들어왔습니다.",
        "차단된 주소 {ip}입니다",
        "저는 {address}에 거주합니다.",
        "택배는 {address}로 보내 주세요.",
        "사고 장소는 {address:lot} 앞입니다.",
        "본점 소재지: {address}",
        "임시 비밀번호 {secret:password}로 로그인하세요.",
        "시크릿 키는 {secret}이고 공개하면 안 됩니다.",
        "인증 토큰: {secret:hex}",
        "설정 파일에 {secret:prefix} 키가 있습니다.",
        "{secret:pem}",
        "환자 {person}(남, 45세)의 보호자는 {person}입니다.",
        "{person} 팀장이 {person} 대리에게 보고했습니다.",
        "지난주에 {person}은 {place}에 다녀왔다.",
        "{person}에게 {place} 출장 일정을 알려 주세요.",
        "작성자: {person}, 검토자: {person}",
        "오늘 {person}도 발표를 맡았고 {person}의 도움을 받았다.",
        "SWIFT 송금용 IBAN은 {bank_account:iban} 입니다.",
    ],
    ("en", "fresh"): [
        "Hi {person}, my new mobile is {phone}, same e-mail as before: {email}",
        "For questions contact {email} (Mon-Fri) or {phone}.",
        "reply-to: {email}; cc: {email}",
        "The transfer to {bank_account:iban} bounced twice.",
        "She paid with {card}, exp 09/29, and wants the receipt at {email}.",
        "Card number {card} was declined at the gate.",
        "Request from {ip} (user {email}) took 300 ms",
        "firewall: drop src={ip} dst={ip} proto=tcp",
        "Applicant's passport no: {passport}",
        "He lost his passport {passport} on the train.",
        "Checking account {bank_account:us}, please close it.",
        "Home address: {address}",
        "We moved to {address} in spring.",
        "Return the parcel to {address}.",
        "passwd = {secret:password}",
        "My password was {secret:password} until yesterday",
        "  secret_key: '{secret}'",
        "X-Api-Key: {secret}",
        "{secret:prefix} was committed by accident",
        "redis://default:{secret:password}@cache.internal:6379",
        "Set-Cookie: session={secret:jwt}; HttpOnly",
        "Korean RRN on the scan: {resident_number}",
    ],
    ("ko", "fresh"): [
        "{person}님, 새 번호는 {phone}입니다. 메일({email})은 그대로예요.",
        "연락 바랍니다: {phone} / {email}",
        "주민등록번호가 {resident_number}로 잘못 기재됨",
        "공급자 등록번호 {business_number}, 상호 한빛",
        "면허 {driving_licence} 갱신 안내",
        "제 여권은 {passport}이고 이름은 {person}입니다.",
        "하나은행 {bank_account} {person} 앞으로 보내 주세요",
        "급여계좌를 {bank_account}(기업은행)로 변경합니다.",
        "{card} 카드로 3만 원을 결제했어요.",
        "카드 {card} 분실 신고합니다",
        "{ip} 대역이 아니라 {ip}에서 접속됨",
        "우편물은 {address}로 부탁드려요.",
        "집 주소가 {address}에서 바뀌었습니다.",
        "현장: {address:lot}",
        "초기 비밀번호={secret:password}",
        "접속 암호는 {secret:password}이니 바꾸세요.",
        "보안키: {secret}",
        "{secret:prefix}이 깃에 올라갔습니다.",
        "헤더에 Bearer {secret:jwt}를 넣으세요.",
        "고객 {person}의 이메일은 {email}, 휴대전화는 {phone}.",
        "외국인등록증 {resident_number} 사본 첨부",
        "해외 계좌 {bank_account:iban}로 송금 요청",
    ],
}

_NEGATIVES: dict[tuple[str, str], list[str]] = {
    ("en", "dev"): [
        "ISBN {=isbn} is out of print.",
        "Order {=order} shipped with tracking number {=tracking}.",
        "Commit {=sha} fixes the parser.",
        "Upgrade from {=version} to {=version} on {=date}.",
        "The request id was {=uuid}.",
        "pip install torch=={=version}",
        "Chapter 12 covers 3 main roads and 40 streets.",
        "x = {=number} * y  # see line {=digits:4}",
        "timestamp {=stamp} was written to the log",
        "The password must have at least 8 characters.",
        "token = tokenizer.next_token(buffer)",
        "secret_name = get_secret(os.environ['SECRET_NAME'])",
        "sha256: {=sha}",
        "Part {=part} fits model {=part}.",
        "The meeting on {=date} takes 30 minutes.",
        "Set password=<your-password> in the file.",
        "api_key: ${{API_KEY}}",
        "Revenue grew by {=number} in 2024.",
        "assert hash == '{=sha}'",
        "He paid 4 dollars at the Green Street market.",
    ],
    ("en", "test"): [
        "The book (ISBN-13 {=isbn}) costs 30 dollars.",
        "Your order number is {=order}; the parcel {=tracking} arrives on {=date}.",
        "git checkout {=sha}",
        "Digest: sha1={=sha}",
        "Release {=version} replaced {=version} two days ago.",
        "session {=uuid} closed after 300 s",
        "requirements: numpy>={=version}, scipy=={=version}",
        "created_at={=stamp} updated_at={=stamp}",
        "Invoice {=order} of {=date} over {=number} USD",
        "for i in range({=digits:6}): total += {=number}",
        "The token count of this prompt is 4096 tokens.",
        "Forgot your password? Click the reset link within 24 hours.",
        "password = getpass.getpass('Password: ')",
        "access_token = response.json()['access_token']",
        "Replacement part {=part} for engine {=part}",
        "Run 10 Drive tests and 2 Road tests in sequence.",
        "The account manager opened 12 tickets on {=date}.",
        "Passport control was closed for 45 minutes.",
        "serial {=digits:12} batch {=digits:9}",
        "Coordinates {=number}, {=number}",
        "SECRET_KEY = os.getenv('SECRET_KEY', default=None)",
        'etag: "{=sha}"',
        "0x{=sha} is the address of the buffer",
        "Train {=digits:3} leaves at 10:45 from platform 9.",
    ],
    ("ko", "dev"): [
        "도서 ISBN {=isbn}은 절판되었습니다.",
        "주문번호 {=order}, 운송장 번호 {=tracking}",
        "커밋 {=sha}에서 수정했습니다.",
        "버전 {=version}에서 {=version}으로 올렸습니다.",
        "{=date}에 회의가 있습니다.",
        "학교로 10분 걸어가면 됩니다.",
        "참가자가 3명에서 12명으로 늘었다.",
        "요청 ID는 {=uuid}입니다.",
        "매출이 {=number} 원 늘었습니다.",
        "은행에 들러서 {=date}까지 서류를 제출하세요.",
        "비밀번호는 8자 이상이어야 합니다.",
        "토큰 수는 4096개로 제한됩니다.",
        "부품 {=part}를 {=part}로 교체했습니다.",
        "타임스탬프 {=stamp}이 기록되었습니다.",
        "고객센터 1588-1234로 문의하세요.",
        "여권을 신청하려면 30일이 걸립니다.",
        "다시 위로 3칸 이동하세요.",
        "정부는 올해 이용자 지원을 늘렸다.",
        "강남구로 3명이 출장을 갔다.",
        "해시값: {=sha}",
    ],
    ("ko", "test"): [
        "이 책의 ISBN은 {=isbn}이며 320쪽입니다.",
        "주문 {=order}의 송장번호는 {=tracking}입니다.",
        "{=date} 기준 재고는 {=digits:3}개입니다.",
        "깃 해시 {=sha}를 확인하세요.",
        "패키지 버전이 {=version}이면 {=version}으로 올리세요.",
        "세션 {=uuid}가 종료되었습니다.",
        "접수번호 {=order}로 조회할 수 있습니다.",
        "로그 시각은 {=stamp}입니다.",
        "총액은 {=number}원이고 수수료는 {=number}원입니다.",
        "은행 앞에서 2번 출구로 5분 걸으면 됩니다.",
        "계좌를 만들려면 신분증 2개가 필요합니다.",
        "비밀번호를 3회 틀리면 잠깁니다.",
        "인증 토큰은 30분 뒤에 만료됩니다.",
        "모델명 {=part}, 일련번호 {=digits:12}",
        "서울로 3시간 걸려서 갔다.",
        "종로 3가에서 7번 버스를 타세요.",
        "회의실은 본관 12층 3호실입니다.",
        "예약번호 {=order} 고객님께 안내드립니다.",
        "이 함수는 {=version}부터 지원되며 {=digits:5}줄입니다.",
        "여권 사진은 2장 필요하고 크기는 3.5x4.5입니다.",
        "오늘 서비스는 이용이 많아 고객이 기다렸다.",
        "조사가 끝나고 정책이 바뀌면 안내가 나간다.",
        "국가는 지원을 강화하고 시장은 성장했다.",
        "md5 {=sha} 파일이 손상되었습니다.",
    ],
    ("en", "fresh"): [
        "See ISBN {=isbn}, chapter 4.",
        "PO {=order} / tracking {=tracking} / due {=date}",
        "Merge {=sha} into main after {=version} ships",
        "trace_id={=uuid} span={=stamp}",
        "docker pull registry/app:{=version}",
        "The lap took {=number} seconds on {=date}.",
        "SKU {=part}, lot {=digits:9}",
        "password_hash = hash_password(password, salt)",
        "Tokens per second: 1200 (batch 64)",
        "Phone support opens at 9:00 and closes at 17:30.",
        "My account was opened on {=date} with 3 cards.",
        "if token is None: raise ValueError('no token')",
        "5 Broadway shows in 3 days",
        "checksum {=sha} ok",
    ],
    ("ko", "fresh"): [
        "국제표준도서번호 {=isbn}을 붙였다.",
        "발주 {=order}, 택배 {=tracking}, 도착 {=date}",
        "{=sha} 커밋을 되돌렸다.",
        "추적 ID {=uuid}, 시각 {=stamp}",
        "{=version} 버전에서 {=version} 버전으로 바뀌었다.",
        "평균 {=number}점, 최고 {=number}점",
        "제품번호 {=part} 재고 {=digits:4}개",
        "비밀번호 변경 주기는 90일입니다.",
        "토큰 12개를 더 썼다.",
        "은행 영업시간은 9시부터 16시까지입니다.",
        "전화 상담은 하루 120건입니다.",
        "중앙로를 따라 5분, 다시 북쪽으로 200m 가세요.",
        "계좌 개설 {=digits:2}일 뒤에 카드 2장이 왔다.",
        "시험은 {=date}에 3층 301호에서 봅니다.",
    ],
}
