"""Numbers in answers: the final one, and whether the steps that lead to it are right.

Numbers are exact rationals. `12,000`, `1.5`, `3/4`, `20%`, `$5`, `3만 5천` and units behind a number are read; letters,
powers and roots are not, so that a statement with them is left alone rather than called false.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

_LONGEST = 2_000
"""Characters of one line that are looked at."""
_DIGITS = 30
"""Digits up to which a number is read."""
_MULTIPLE = r"(?:\s?[천백십만억조](?![가-힣]{2})(?:\s?\d[\d,]*(?=\s?[천백십만억]))?)*"
_NUMBER = rf"[₩$€£]?\s?(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?{_MULTIPLE}\s?%?"
_UNIT = r"(?:\s?(?!x\b)[A-Za-z]{2,12}\.?|\s?[가-힣]{1,5})?"
_NOUN = r"(?:[^\W\d_]{1,12}\s)?"
_OPERATOR = r"[+\-−–*×xX·/÷]"
_OPEN = r"(?:\(\s*[-−]?\s*)*"
_TERM = rf"{_NUMBER}{_UNIT}(?:\s*\))*"
_EXPRESSION = re.compile(rf"(?<![\w.,]){_OPEN}{_TERM}(?:\s*{_OPERATOR}\s*{_OPEN}{_NOUN}{_TERM})*")
_EQUALS = re.compile(r"=|≈|≒")
_LEXEME = re.compile(rf"(?P<number>{_NUMBER})|(?P<operator>{_OPERATOR})|(?P<open>\()|(?P<close>\))")
_MYRIADS = {"만": 10**4, "억": 10**8, "조": 10**12}
_TENS = {"십": 10, "백": 100, "천": 1000}
_BOXED = re.compile(r"\\boxed\{([^{}]{1,60})\}")
_MARKED = re.compile(r"####\s*([^\n]{1,60})")
_ANNOUNCED = re.compile(
    r"(?:(?:final\s+)?answer(?:\s+is)?|정답[은는]?|답[은는]?|최종\s*답[은는]?)\s*[:：=]?\s*\**\s*([^\n]{1,60})",
    re.IGNORECASE,
)
_ANY = re.compile(rf"(?:(?<![\w)])[-−]\s?)?{_NUMBER}(?:\s?/\s?\d+)?")


@dataclass(frozen=True)
class Statement:
    """An equation of an answer: as it is written, what its right side says, and whether it holds."""

    written: str
    result: Fraction
    holds: bool


@dataclass(frozen=True)
class Chain:
    """What an answer computes.

    Attributes:
        statements: Its equations between numbers, in order.
        answer: Its final number; None if it has none.
        announced: Whether the answer is marked as such, rather than only the last number.
    """

    statements: tuple[Statement, ...]
    answer: Fraction | None
    announced: bool

    @property
    def false_steps(self) -> int:
        """How many equations do not hold."""
        return sum(not statement.holds for statement in self.statements)

    @property
    def contradicts_itself(self) -> bool:
        """Whether the answer is another number than the last equation came to."""
        return bool(self.announced and self.statements and self.answer != self.statements[-1].result)


def read_chain(text: str) -> Chain:
    """Read the equations and the final number of an answer."""
    statements = []
    for line in text.splitlines():
        statements += _statements(re.sub(r"^\s*(?:[-*•]\s+|\(?\d+[.)]\s+)", "", line[:_LONGEST]))
    answer, announced = _final(text)
    return Chain(tuple(statements), answer, announced)


def final_number(text: str) -> Fraction | None:
    """The number that an answer comes to: marked (`####`, `\\boxed{}`, "the answer is", "정답은"), or else its last."""
    return _final(text)[0]


def read_number(text: str) -> Fraction | None:
    """The first number of a text, with its sign; None if there is none."""
    found = _ANY.search(text)
    if not found:
        return None
    return _signed(found[0])


def _signed(written: str) -> Fraction | None:
    negative = written[0] in "-−"
    top, _, bottom = written.lstrip("-− ").partition("/")
    value = _value(top)
    if value is None or (bottom and not int(bottom)):
        return None
    value = value / int(bottom) if bottom else value
    return -value if negative else value


def _final(text: str) -> tuple[Fraction | None, bool]:
    for pattern in (_MARKED, _BOXED, _ANNOUNCED):
        for found in reversed(pattern.findall(text)):
            # "The answer is 3 + 4 = 7" comes to what stands behind the last sign.
            said = found.rpartition("=")[2]
            if (number := read_number(said)) is not None:
                return number, True
    numbers = list(_ANY.finditer(text[-10 * _LONGEST :]))
    return (_signed(numbers[-1][0]) if numbers else None), False


def _statements(line: str) -> list[Statement]:
    """The equations of a line; `a + b = c + d = e` is two."""
    signs = list(_EQUALS.finditer(line))
    borders = [0, *(sign.end() for sign in signs), len(line) + 1]
    sides = [line[begin : (signs[at].start() if at < len(signs) else None)] for at, begin in enumerate(borders[:-1])]
    found = []
    for left, right in pairwise(sides):
        before, after = _last_expression(left), _first_expression(right)
        if not re.search(_OPERATOR, before) and not re.search(_OPERATOR, after):
            continue  # a name for a number claims nothing
        values = _evaluate(before), _evaluate(after)
        if values[0] is not None and values[1] is not None:
            found.append(Statement(f"{before} = {after}", values[1], _same(values[0], values[1], after)))
    return found


def _last_expression(side: str) -> str:
    """The expression that ends where a side ends; '' if there is none."""
    *_, last = ["", *(match[0] for match in _EXPRESSION.finditer(side) if not side[match.end() :].strip())]
    return last.strip()


def _first_expression(side: str) -> str:
    """The expression that a side begins with, without the words behind its last number."""
    begun = re.match(r"\s*([-−]?)\s*", side)
    assert begun
    match = _EXPRESSION.match(side, begun.end())
    return (begun[1] + match[0]).strip() if match else ""


def _same(exact: Fraction, said: Fraction, written: str) -> bool:
    """Whether a result is right: exactly, or rounded to the decimals that are written if there are any."""
    if exact == said:
        return True
    _, point, decimals = written.rstrip(" %").partition(".")
    places = len(decimals) + (2 if written.rstrip().endswith("%") else 0)
    return bool(point) and abs(exact - said) <= Fraction(1, 2 * 10**places)


def _value(written: str) -> Fraction | None:
    """Read a number without a sign."""
    text = written.strip("₩$€£ ").replace(",", "")
    percent = text.endswith("%")
    text = text.rstrip("% ")
    if sum(sign.isdigit() for sign in text) > _DIGITS:
        return None
    value = _korean(text) if re.search("[천백십만억조]", text) else Fraction(text.strip())
    return value / 100 if percent else value


def _korean(text: str) -> Fraction:
    """`3만 5천` is 35,000; `1억 2,000만` is 120,000,000."""
    total, section, number = Fraction(0), Fraction(0), Fraction(0)
    given = False
    for piece in re.findall(r"\d+(?:\.\d+)?|[천백십만억조]", text):
        if piece in _MYRIADS:
            total += (section + number or 1) * _MYRIADS[piece]
            section, number, given = Fraction(0), Fraction(0), False
        elif piece in _TENS:
            section += (number if given else 1) * _TENS[piece]
            number, given = Fraction(0), False
        else:
            number, given = Fraction(piece), True
    return total + section + number


def _evaluate(written: str) -> Fraction | None:
    """Compute an expression; None if it is not one, or divides by zero."""
    lexemes = [(str(match.lastgroup), match[0]) for match in _LEXEME.finditer(written)]
    if len(lexemes) > 200:
        return None
    place = 0

    def peek() -> str:
        return lexemes[place][0] if place < len(lexemes) else ""

    def product(depth: int) -> Fraction:
        nonlocal place
        value = atom(depth)
        while peek() == "operator" and lexemes[place][1] not in "+-−–":
            divides = lexemes[place][1] in "/÷"
            place += 1
            other = atom(depth)
            value = value / other if divides else value * other
        return value

    def total(depth: int) -> Fraction:
        nonlocal place
        value = product(depth)
        while peek() == "operator" and lexemes[place][1] in "+-−–":
            adds = lexemes[place][1] == "+"
            place += 1
            other = product(depth)
            value = value + other if adds else value - other
        return value

    def atom(depth: int) -> Fraction:
        nonlocal place
        if depth > 20:
            raise ValueError("nested too deeply")
        if peek() == "operator" and lexemes[place][1] in "-−":
            place += 1
            return -atom(depth + 1)
        if peek() == "open":
            place += 1
            value = total(depth + 1)
            if peek() == "close":
                place += 1
            return value
        if peek() != "number":
            raise ValueError("a number is missing")
        number = _value(lexemes[place][1])
        place += 1
        if number is None:
            raise ValueError("a number is too long")
        return number

    try:
        value = total(0)
    except (ValueError, ZeroDivisionError):
        return None
    while peek() == "close":  # a bracket that was opened before the expression
        place += 1
    return value if place == len(lexemes) else None
