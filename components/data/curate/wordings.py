"""How a fact is asked: per kind of fact and language, three wordings for training and a fourth that is held out."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a question is about."""

    LICENSE = "license"
    PURPOSE = "purpose"
    DEPENDENCY = "dependency"
    PYTHON = "python"
    DOMAIN = "maintainer domain"
    HOME = "home page"
    SECTION = "section"
    QUESTION = "question"
    CELL = "table cell"
    DIALOGUE = "dialogue"


@dataclass(frozen=True)
class Fact:
    """One thing that can be asked and has one short answer.

    Attributes:
        kind: What the question is about.
        language: Language to ask in: en or ko.
        subject: What the document is about: a package, a title.
        detail: What is asked of the subject where the kind does not say it: a heading, a question, a row.
        column: Column of the table that holds the answer.
        answer: The answer.
    """

    kind: Kind
    language: str
    subject: str
    answer: str
    detail: str = ""
    column: str = ""

    @property
    def key(self) -> str:
        """What makes two facts the same question."""
        return "\x1f".join((self.kind, self.language, self.subject, self.detail, self.column)).casefold()

    def wordings(self, number: int) -> tuple[list[str], str]:
        """Ask: `number` wordings for training, and the one held out."""
        *training, held_out = (
            pattern.format(subject=self.subject, detail=self.detail, column=self.column)
            for pattern in _PATTERNS[self.language][self.kind]
        )
        return training[:number], held_out


_PATTERNS: dict[str, dict[Kind, tuple[str, str, str, str]]] = {
    "en": {
        Kind.LICENSE: (
            "What is the license of the Python package {subject}?",
            "Under which license is {subject} released?",
            "Which license does {subject} use?",
            "How is the package {subject} licensed?",
        ),
        Kind.PURPOSE: (
            "What is the Python package {subject} for?",
            "What does {subject} say it is?",
            "How does {subject} describe itself?",
            "In one line, what is the package {subject}?",
        ),
        Kind.DEPENDENCY: (
            "Which package does {subject} list first among its requirements?",
            "What is the first dependency of {subject}?",
            "Name the first requirement of the Python package {subject}.",
            "Which dependency comes first in the requirements of the package {subject}?",
        ),
        Kind.PYTHON: (
            "Which Python version does {subject} require?",
            "What Python does the package {subject} need?",
            "Which versions of Python can run {subject}?",
            "What is the Python version requirement of the package {subject}?",
        ),
        Kind.DOMAIN: (
            "Which e-mail domain does the maintainer of {subject} use?",
            "At which domain is the maintainer of the Python package {subject}?",
            "What is the domain of the contact address of {subject}?",
            "What is the mail domain of the people who maintain the package {subject}?",
        ),
        Kind.HOME: (
            "On which site is the home page of {subject}?",
            "What is the host of the home page of the Python package {subject}?",
            "Where does {subject} have its home page?",
            "Which host serves the home page of the package {subject}?",
        ),
        Kind.SECTION: (
            'How does the section "{detail}" of {subject} begin?',
            'What does {subject} say first under "{detail}"?',
            'Quote the opening sentence of "{detail}" in {subject}.',
            'What is the first sentence of the section "{detail}" in {subject}?',
        ),
        Kind.QUESTION: (
            "{subject}: {detail}",
            "A question about {subject}: {detail}",
            "{detail} This is about {subject}.",
            "Can you tell me this about {subject}? {detail}",
        ),
        Kind.CELL: (
            "In the table of {subject}, what is the {column} of {detail}?",
            'What does {subject} give as "{column}" for {detail}?',
            "{subject}: {detail}, {column}?",
            'According to {subject}, what is "{column}" in the row {detail}?',
        ),
        Kind.DIALOGUE: ("{detail}", "Please answer: {detail}", "Question: {detail}", "Can you tell me? {detail}"),
    },
    "ko": {
        Kind.LICENSE: (
            "파이썬 패키지 {subject}의 라이선스는 무엇인가요?",
            "{subject} 패키지는 어떤 라이선스로 배포되나요?",
            "{subject} 패키지에 적용되는 라이선스를 알려 주세요.",
            "{subject} 패키지의 라이선스가 무엇인지 알려 줄래요?",
        ),
        Kind.PURPOSE: (
            "파이썬 패키지 {subject}의 용도는 무엇인가요?",
            "{subject} 패키지는 스스로를 어떻게 소개하나요?",
            "{subject} 패키지는 무엇인가요?",
            "{subject} 패키지를 한 줄로 소개해 주세요.",
        ),
        Kind.DEPENDENCY: (
            "{subject} 패키지가 첫 번째로 요구하는 패키지는 무엇인가요?",
            "{subject} 패키지의 첫 번째 의존성은 무엇인가요?",
            "{subject} 패키지의 요구 사항 중 맨 앞의 패키지를 알려 주세요.",
            "{subject} 패키지의 의존성 목록에서 맨 처음은 무엇인가요?",
        ),
        Kind.PYTHON: (
            "{subject} 패키지에 필요한 파이썬 버전은 무엇인가요?",
            "{subject} 패키지는 어떤 파이썬을 요구하나요?",
            "{subject} 패키지를 쓸 수 있는 파이썬 버전을 알려 주세요.",
            "{subject} 패키지의 파이썬 버전 조건은 무엇인가요?",
        ),
        Kind.DOMAIN: (
            "{subject} 패키지 관리자의 전자 우편 도메인은 무엇인가요?",
            "{subject} 패키지의 관리자는 어느 도메인의 주소를 쓰나요?",
            "{subject} 패키지 연락처의 도메인을 알려 주세요.",
            "{subject} 패키지를 관리하는 사람의 메일 도메인은 무엇인가요?",
        ),
        Kind.HOME: (
            "{subject} 패키지의 홈페이지는 어느 사이트에 있나요?",
            "{subject} 패키지 홈페이지의 호스트는 무엇인가요?",
            "{subject} 패키지의 홈페이지가 있는 곳을 알려 주세요.",
            "{subject} 패키지의 홈페이지를 제공하는 호스트는 어디인가요?",
        ),
        Kind.SECTION: (
            '{subject} 문서의 "{detail}" 절은 어떻게 시작하나요?',
            '{subject} 문서는 "{detail}" 아래에서 먼저 무엇이라고 말하나요?',
            '{subject} 문서에서 "{detail}" 절의 첫머리를 알려 주세요.',
            '{subject} 문서의 "{detail}" 절에서 첫 문장은 무엇인가요?',
        ),
        Kind.QUESTION: (
            "{subject}: {detail}",
            "{subject} 관련 질문입니다. {detail}",
            "{detail} {subject}에 대한 질문입니다.",
            "{subject}에 대해 알려 줄래요? {detail}",
        ),
        Kind.CELL: (
            "{subject} 표에서 {detail} 항목의 {column} 값은 무엇인가요?",
            '{subject} 문서에 따르면 {detail}의 "{column}" 값은 무엇인가요?',
            "{subject}: {detail}, {column}?",
            '{subject} 문서의 {detail} 행에서 "{column}" 열을 알려 주세요.',
        ),
        Kind.DIALOGUE: ("{detail}", "대답해 주세요. {detail}", "질문: {detail}", "알려 줄래요? {detail}"),
    },
}
