"""Reasons for which a step leaves a document out: a name for counting, a sentence for people."""

from enum import StrEnum
from typing import Self


class Reason(StrEnum):
    """Base of each step's reasons; a member is written `NAME = "name", "Sentence."`."""

    sentence: str

    def __new__(cls, name: str, sentence: str) -> Self:
        """Make a member whose value is its name and that also carries its sentence."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.sentence = sentence
        return member
