"""What parsing gives: clean text, or the reason why not."""

from dataclasses import dataclass, field

from components.data.reasons import Reason


class Unparsed(Reason):
    """Why a document could not be parsed."""

    MALFORMED = "malformed", "It breaks the rules of its format."
    BOMB = "bomb", "It unpacks to far more than it is, or defines entities."
    SLOW = "slow", "Its parser took more processor time than the recipe gives a document."
    MEMORY = "memory", "Its parser took more memory than the recipe gives."
    CRASHED = "crashed", "Its parser died of it."
    EMPTY = "empty", "Nothing is left of it but markup."
    ERASED = "erased", "It was erased at a person's request and may not come back."


class ParseError(ValueError):
    """A text that cannot be parsed, and why; the message quotes nothing of it."""

    def __init__(self, detail: str, reason: Unparsed = Unparsed.MALFORMED) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Symbol:
    """A function, class or the like of a source file; `rest` is what lies outside of all."""

    name: str
    kind: str
    first_line: int
    last_line: int
    text: str


@dataclass(frozen=True)
class Parsed:
    """A text in the form that the steps downstream expect."""

    text: str
    format: str
    metadata: dict[str, str] = field(default_factory=dict)
    rows_cut: int = 0
    symbols: tuple[Symbol, ...] = ()
