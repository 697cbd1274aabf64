"""Find answers in dialogues that can be trained on with what was said before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.data.curate.facts import UNFIT, WORD

TURN = "turn"
"""What a pair out of a dialogue says in the place of the kind of its fact."""

CONTEXT = 5
"""Most messages before an answer: two earlier exchanges and the question. What is older is rarely needed."""


@dataclass(frozen=True)
class Turn:
    """An answer in a dialogue, with the messages it answers.

    Attributes:
        language: Language of the dialogue.
        messages: (role, content) of what was said, the answer last.
    """

    language: str
    messages: tuple[tuple[str, str], ...]

    @property
    def kind(self) -> str:
        """What it counts as beside kinds of facts."""
        return TURN

    @property
    def answer(self) -> str:
        """What was answered."""
        return self.messages[-1][1]

    @property
    def asked(self) -> str:
        """What was asked last."""
        return self.messages[-2][1]

    @property
    def gist(self) -> str:
        """What sets it apart from others."""
        return f"{self.asked} {self.answer}"

    @property
    def key(self) -> str:
        """What makes two turns the same question."""
        return "\x1f".join((TURN, self.language, *(content for _, content in self.messages[:-1]))).casefold()


def find_turns(row: Mapping[str, Any], language: str, turn_words: int, answer_words: int) -> Iterator[Turn]:
    """Find the answers of a dialogue.

    Args:
        row: A document.
        language: Its language.
        turn_words: Most words in an answer.
        answer_words: Most words in a fact's answer: a first answer that short is a fact.

    Yields:
        Answers to a user, without links, templates and masks, each with its context.
    """
    told = [(message["role"], message["content"].strip()) for message in row["messages"]]
    systems = [message for message in told if message[0] == "system"][:1]
    spoken = [message for message in told if message[0] != "system"]
    for number in range(1, len(spoken)):
        (asker, question), (role, answer) = spoken[number - 1 : number + 1]
        length = len(WORD.findall(answer))
        if (asker, role) != ("user", "assistant") or not question or UNFIT.search(answer):
            continue
        if 0 < length <= turn_words and (number > 1 or length > answer_words):
            yield Turn(language, (*systems, *_context(spoken[:number]), (role, answer)))


def _context(before: Sequence[tuple[str, str]]) -> Sequence[tuple[str, str]]:
    """The last messages before an answer, from a user's on."""
    recent = before[-CONTEXT:]
    return next(recent[start:] for start in range(len(recent)) if recent[start][0] == "user")
