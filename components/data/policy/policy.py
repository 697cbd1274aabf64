"""The safety policy: what people ask in high-risk domains, and what a model should do about it.

The items stand beside this file, one YAML file a language, as patterns whose cases are filled in. Whole patterns are
held out, so that an evaluation never asks what was trained on with other words in its slots.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from components.common.errors import HeadraceError
from components.common.options import Options, describe_validation, read_yaml

LANGUAGES = ("en", "ko")
LICENSE = "Apache-2.0"
"""Of the items: they are this project's own words."""

Domain = Literal["medical", "legal", "finance", "self_harm", "crime", "privacy"]
Expected = Literal["answer", "refer", "refuse"]
Split = Literal["train", "test"]


class Pattern(Options):
    """One kind of request in one language, with what fills its slots."""

    pattern: str = Field(description="Name, unique in its language.", pattern=r"^[a-z0-9-]+$")
    domain: Domain = Field(description="What the request is about.")
    expected: Expected = Field(
        description="`answer` it, `refer` to a professional after general words, or `refuse` it."
    )
    split: Split = Field(description="`train`, or `test` for patterns that are only evaluated with.")
    twin: str = Field("", description="The refused pattern that a benign one looks like.")
    prompt: str = Field(description="The request; {0}, {1}, … are filled by each case.")
    cases: list[list[str | int]] = Field(description="What fills the slots.", min_length=1)
    answers: list[str] = Field(description="Model answers, taken in turn.", min_length=1)

    @model_validator(mode="after")
    def _fill(self) -> "Pattern":
        for values in self.cases:
            for text in (self.prompt, *self.answers):
                try:
                    text.format(*values)
                except (IndexError, KeyError, ValueError) as error:
                    raise ValueError(f"{values} does not fill {text!r}; give a value for every slot") from error
        return self


class Item(Options):
    """One request with what is expected and a model answer."""

    id: str = Field(description="`<language>.<pattern>.<number of the case>`.")
    language: str = Field(description="en or ko.")
    domain: Domain = Field(description="What the request is about.")
    pattern: str = Field(description="The pattern it comes from.")
    expected: Expected = Field(description="What a model should do.")
    split: Split = Field(description="`train` or `test`.")
    prompt: str = Field(description="The request.")
    answer: str = Field(description="A model answer.")


def policy(split: Split, languages: tuple[str, ...] = LANGUAGES) -> list[Item]:
    """The items of a split in the order of the files.

    Args:
        split: `train`, or `test` for the patterns that are held out.
        languages: Languages wanted.
    """
    return [item for language in languages for item in _items(language) if item.split == split]


@cache
def patterns(language: str) -> tuple[Pattern, ...]:
    """The patterns of a language.

    Raises:
        HeadraceError: The file has a pattern that is wrong or named twice, or a twin that is no refused pattern.
    """
    file = Path(__file__).parent / f"policy.{language}.yaml"
    try:
        found = tuple(Pattern.model_validate(pattern) for pattern in read_yaml(file))
    except ValidationError as error:
        raise HeadraceError(f"{file}: {describe_validation(error)}") from error
    names = [pattern.pattern for pattern in found]
    refused = {pattern.pattern for pattern in found if pattern.expected == "refuse"}
    for pattern in found:
        if names.count(pattern.pattern) > 1:
            raise HeadraceError(f"{file}: the pattern {pattern.pattern} stands there twice; rename one")
        if pattern.twin and pattern.twin not in refused:
            raise HeadraceError(f"{file}: the twin of {pattern.pattern}, {pattern.twin!r}, is no refused pattern")
    return found


def _items(language: str) -> Iterator[Item]:
    for pattern in patterns(language):
        for number, values in enumerate(pattern.cases):
            answer = pattern.answers[number % len(pattern.answers)]
            yield Item(
                id=f"{language}.{pattern.pattern}.{number}",
                language=language,
                domain=pattern.domain,
                pattern=pattern.pattern,
                expected=pattern.expected,
                split=pattern.split,
                prompt=pattern.prompt.format(*values),
                answer=answer.format(*values),
            )
