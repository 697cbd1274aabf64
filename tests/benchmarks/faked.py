"""Sentences whose personal data comes from Faker: another library's idea of names, addresses and numbers, not ours.

English sentences take turns between `en_US` and `en_GB`. Seed 1 is what rules are developed on, seed 0 what they are
judged by; both share the templates, none of the values. Every second sentence holds what Faker makes besides: ISBNs,
user agents, companies, hashes, vehicle numbers.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.benchmarks.labelled import Language, Sentence, fill

KINDS = ("email", "phone", "card", "bank_account", "ip", "address", "secret", "resident_number")
"""Kinds of the rules that Faker makes."""
LOCALES: dict[Language, tuple[str, ...]] = {"en": ("en_US", "en_GB"), "ko": ("ko_KR",)}


def faked(language: Language, count: int, seed: int = 0) -> list[Sentence]:
    """Make sentences, the same ones for the same arguments and version of Faker.

    Args:
        language: Language of the templates.
        count: How many; every second one holds nothing personal.
        seed: Seed of Faker's choices.
    """
    faker = pytest.importorskip("faker", reason="Faker is among the packages of `dev`")
    makers = []
    for locale in LOCALES[language]:
        generator = faker.Faker(locale)
        generator.seed_instance(f"{locale} {seed}")
        makers.append(_maker(generator, language))
    made = []
    for number in range(count):
        templates = (_NEGATIVES if number % 2 else _TEMPLATES)[language]
        template = templates[number // 2 % len(templates)]
        made.append(fill(template, makers[number // 2 // len(templates) % len(makers)], language))
    return made


def _maker(faker: Any, language: Language) -> Callable[[str, str], str]:
    """What makes the value of a slot of a form."""

    def address() -> str:
        if language == "en":
            return str(faker.address())
        made = faker.random_element([faker.road_address, faker.land_address])()
        return f"{made} {faker.address_detail()}" if faker.boolean(25) else str(made)

    def person() -> str:
        return f"{faker.first_name()} {faker.last_name()}" if language == "en" else f"{faker.name()}"

    def place() -> str:
        choices = [faker.city, faker.country, faker.administrative_unit]
        return str(faker.random_element(choices)())

    made: dict[str, Callable[[], str]] = {
        "email": lambda: faker.random_element([faker.company_email, faker.free_email])(),
        "phone": faker.phone_number,
        "card": faker.credit_card_number,
        "bank_account": faker.iban,
        "ip": lambda: faker.random_element([faker.ipv4_public, faker.ipv4_private, faker.ipv6])(),
        "secret": lambda: faker.password(length=14),
        "resident_number": faker.ssn,
        "person": person,
        "place": place,
        "address": lambda: address().replace("\n", ", "),
        "address:lines": address,
    }

    def make(name: str, form: str) -> str:
        if name.startswith("="):
            return str(getattr(faker, name[1:])())
        return made[f"{name}:{form}" if form else name]()

    return make


_TEMPLATES: dict[Language, list[str]] = {
    "en": [
        "{person} can be reached at {email} or {phone}.",
        "Name: {person}\nPhone: {phone}\nEmail: {email}",
        "Please call {person} on {phone} about the invoice.",
        "Best regards,\n{person}\n{=company}\n{phone}",
        "Ship to:\n{person}\n{address:lines}\n",
        "The delivery for {person} goes to {address}.",
        "Her address is {address}, she said.",
        "Billing address: {address:lines}\nPayment by card {card}",
        "We have moved. New address: {address}",
        '{{"name": "{person}", "address": "{address}", "phone": "{phone}"}}',
        "{person},{email},{phone},{card}",
        "Paid with {card} on {=date}.",
        "Please transfer the rent to {bank_account} before {=date}.",
        "Login of {email} from {ip} failed.",
        "{ip} - - [{=date}] GET {=uri_path}",
        "password: {secret}",
        "Yesterday {person} travelled from {place} to {place}.",
        "{person} works as {=job} for {=company} in {place}.",
        "In {place}, {person} met {person} by chance.",
        "tel: {phone}, fax: {phone}",
    ],
    "ko": [
        "{person} 님의 이메일은 {email}, 전화번호는 {phone}입니다.",
        "이름: {person}\n전화: {phone}\n이메일: {email}",
        "{person}에게 {phone}로 전화해 주세요.",
        "감사합니다.\n{person} 드림\n{=company}\n{phone}",
        "받는 사람: {person}\n주소: {address}\n",
        "{person} 고객님의 물건은 {address}로 배송됩니다.",
        "제 주소는 {address}입니다.",
        "청구지 {address}, 결제 카드 {card}",
        "{address}에서 행사가 열립니다.",
        '{{"이름": "{person}", "주소": "{address}", "전화": "{phone}"}}',
        "{person},{email},{phone},{card}",
        "{=date}에 {card} 카드로 결제했습니다.",
        "해외 송금은 {bank_account}로 해 주세요.",
        "{ip}에서 {email} 계정으로 로그인했습니다.",
        "비밀번호는 {secret} 입니다.",
        "주민등록번호 {resident_number}을 확인했습니다.",
        "{person}({resident_number})의 진료 기록",
        "어제 {person} 씨가 {place}에서 {place}로 이사했다.",
        "{person} 대리는 {=company}에서 일한다.",
        "{place}에 사는 {person}과 {person}을 만났다.",
    ],
}

_NEGATIVES: dict[Language, list[str]] = {
    "en": [
        "ISBN {=isbn13} or {=isbn10}",
        "{=user_agent}",
        "commit {=sha1} on {=iso8601}",
        "Request {=uuid4} took {=random_number} ms",
        "The interface {=mac_address} is down.",
        "{=catch_phrase} by {=company}: {=bs}",
        "Open {=file_path} with care.",
        "EAN {=ean13}, VIN {=vin}",
        "Number plate {=license_plate} was seen at {=time}.",
        "{=sentence}",
        "color {=hex_color} and {=safe_color_name}",
        "checksum {=md5}",
        "Between {=date} and {=date} we sold {=random_number} units.",
        "GET {=uri_path} {=http_status_code}",
    ],
    "ko": [
        "도서번호 {=isbn13}, {=isbn10}",
        "브라우저는 {=user_agent}입니다.",
        "커밋 {=sha1}, 시각 {=iso8601}",
        "요청 {=uuid4} 처리에 {=random_number}밀리초가 걸렸다.",
        "장치 {=mac_address}가 멈췄습니다.",
        "{=catch_phrase}, {=company}의 {=bs}",
        "{=file_path} 파일을 여세요.",
        "바코드 {=ean13}, 차대번호 {=vin}",
        "차량 {=license_plate}가 {=time}에 들어왔다.",
        "색상 {=hex_color}",
        "체크섬 {=md5}",
        "{=date}부터 {=date}까지 {=random_number}개를 팔았다.",
    ],
}
