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
    def asked(self) -> str:
        """What the question names."""
        return " ".join((self.subject, self.detail, self.column))

    @property
    def gist(self) -> str:
        """What sets it apart from others of its kind."""
        return f"{self.asked} {self.answer}"

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
            "Which license does {subject} have?",
            "Under what license is the package {subject} available?",
        ),
        Kind.PURPOSE: (
            "Describe the Python package {subject} in one line.",
            "What is the one-line description of {subject}?",
            "How does {subject} describe itself in one line?",
            "In one line, how would you describe the package {subject}?",
        ),
        Kind.DEPENDENCY: (
            "What is the only dependency of the Python package {subject}?",
            "Which one package does {subject} depend on?",
            "Name the only package that {subject} depends on.",
            "Which package is the only dependency of {subject}?",
        ),
        Kind.PYTHON: (
            "What is the oldest Python version that {subject} supports?",
            "Which Python version does the package {subject} need at least?",
            "From which Python version on does {subject} run?",
            "What is the oldest version of Python that the package {subject} runs on?",
        ),
        Kind.DOMAIN: (
            "Which e-mail domain do the maintainers of {subject} use?",
            "What is the e-mail domain of the maintainers of the Python package {subject}?",
            "At which domain do the maintainers of {subject} receive e-mail?",
            "Which domain do the maintainers of the package {subject} use for e-mail?",
        ),
        Kind.HOME: (
            "On which web site is the home page of {subject}?",
            "What is the web site of the Python package {subject}?",
            "Where on the web is the home page of {subject}?",
            "At which web site is the home page of the package {subject}?",
        ),
        Kind.SECTION: (
            'What does the document {subject} say about "{detail}"?',
            'What do you read in {subject} under "{detail}"?',
            'Tell me what {subject} says in the section "{detail}".',
            'What does {subject} say under "{detail}"?',
        ),
        Kind.QUESTION: (
            "{subject}: {detail}",
            "A question on {subject}: {detail}",
            "{detail} This is about {subject}.",
            "About {subject}: {detail}",
        ),
        Kind.CELL: (
            'In the tables of {subject}, what is the "{column}" of "{detail}"?',
            'For "{detail}", what do the tables of {subject} give as "{column}"?',
            'Look up "{detail}" in the tables of {subject}: what is its "{column}"?',
            'According to the tables of {subject}, what is the "{column}" of "{detail}"?',
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
            "파이썬 패키지 {subject}를 한 줄로 설명해 주세요.",
            "{subject} 패키지의 한 줄 소개는 무엇인가요?",
            "{subject} 패키지는 한 줄로 어떻게 소개되나요?",
            "{subject} 패키지를 한 줄로 소개해 주세요.",
        ),
        Kind.DEPENDENCY: (
            "파이썬 패키지 {subject}의 유일한 의존성은 무엇인가요?",
            "{subject} 패키지가 의존하는 단 하나의 패키지는 무엇인가요?",
            "{subject} 패키지의 하나뿐인 의존성을 알려 주세요.",
            "{subject} 패키지의 유일한 의존성은 어떤 패키지인가요?",
        ),
        Kind.PYTHON: (
            "{subject} 패키지를 쓸 수 있는 가장 낮은 파이썬 버전은 무엇인가요?",
            "{subject} 패키지에는 최소한 어떤 파이썬 버전이 필요한가요?",
            "{subject} 패키지의 최소 파이썬 버전을 알려 주세요.",
            "{subject} 패키지가 지원하는 가장 낮은 파이썬 버전은 무엇인가요?",
        ),
        Kind.DOMAIN: (
            "{subject} 패키지 관리자의 이메일 도메인은 무엇인가요?",
            "{subject} 패키지의 관리자는 어느 이메일 도메인을 쓰나요?",
            "{subject} 패키지 관리자의 이메일 주소는 어느 도메인에 있나요?",
            "{subject} 패키지를 관리하는 사람의 이메일 도메인을 알려 주세요.",
        ),
        Kind.HOME: (
            "{subject} 패키지의 홈페이지는 어느 웹사이트에 있나요?",
            "{subject} 패키지의 웹사이트는 무엇인가요?",
            "{subject} 패키지의 홈페이지가 있는 웹사이트를 알려 주세요.",
            "{subject} 패키지의 홈페이지는 어느 사이트에서 볼 수 있나요?",
        ),
        Kind.SECTION: (
            '{subject} 문서는 "{detail}"에 대해 무엇이라고 말하나요?',
            '{subject} 문서의 "{detail}" 절에는 무엇이라고 쓰여 있나요?',
            '{subject} 문서가 "{detail}" 절에서 하는 말을 알려 주세요.',
            '{subject} 문서의 "{detail}" 절은 무엇이라고 말하나요?',
        ),
        Kind.QUESTION: (
            "{subject}: {detail}",
            "{subject} 관련 질문입니다. {detail}",
            "{detail} {subject}에 대한 질문입니다.",
            "{subject}에 대한 질문: {detail}",
        ),
        Kind.CELL: (
            '{subject} 문서의 표에서 "{detail}"의 "{column}" 값은 무엇인가요?',
            '{subject} 문서의 표는 "{detail}"의 "{column}" 값으로 무엇을 제시하나요?',
            '{subject} 문서의 표에서 "{detail}"의 "{column}" 값을 찾아 주세요.',
            '{subject} 문서의 표에 따르면 "{detail}"의 "{column}" 값은 무엇인가요?',
        ),
        Kind.DIALOGUE: ("{detail}", "대답해 주세요. {detail}", "질문: {detail}", "알려 줄래요? {detail}"),
    },
}
