"""Options of data/filter."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from components.common.options import Options

Share = Annotated[float, Field(ge=0, le=1)]


class Prose(Options):
    """What running text must look like; dialogue and tickets have only letters and digits judged."""

    min_alphabetic_ratio: Share = Field(0.5, description="Least share of letters among the visible characters.")
    max_digit_ratio: Share = Field(0.3, description="Largest share of digits among the visible characters.")
    min_entropy: float = Field(3.0, ge=0, description="Least entropy of the characters, in bits for each.")
    max_symbol_ratio: float = Field(0.1, ge=0, description="Most `#` and `…` per word.")
    min_worded_ratio: Share = Field(
        0.8, description="Least share of words with a letter, among those with a letter or digit."
    )
    word_length: tuple[float, float] = Field(
        (3, 10), description="Least and most characters of a word on average, in alphabets."
    )
    word_length_korean: tuple[float, float] = Field(
        (1.6, 7), description="The same in Hangul syllables; of a mixed text each script bears its share."
    )
    max_bullet_ratio: Share = Field(0.9, description="Largest share of lines that begin with a bullet.")
    max_ellipsis_ratio: Share = Field(0.3, description="Largest share of lines that end with an ellipsis.")
    min_stop_words: int = Field(
        2, ge=0, description="Least different stop words (English) or particles and endings (Korean)."
    )
    from_words: int = Field(
        50, ge=0, description="Words from which word length, bullets, ellipses and stop words are judged."
    )


class Repetition(Options):
    """How much of running text may say the same again."""

    max_lines: Share = Field(0.3, description="Largest share of lines that repeat an earlier one.")
    max_line_characters: Share = Field(0.2, description="Largest share of characters in such lines.")
    max_paragraphs: Share = Field(0.3, description="Largest share of paragraphs that repeat an earlier one.")
    max_paragraph_characters: Share = Field(0.2, description="Largest share of characters in such paragraphs.")
    max_top_ngrams: list[float] = Field(
        [0.2, 0.18, 0.16],
        min_length=3,
        max_length=3,
        description="Largest share of characters in the most frequent n-gram of 2, 3 and 4 words.",
    )
    max_duplicate_ngrams: list[float] = Field(
        [0.15, 0.14, 0.13, 0.12, 0.11, 0.10],
        min_length=6,
        max_length=6,
        description="Largest share of characters in n-grams of 5, 6, … 10 words that were there before.",
    )


class Spam(Options):
    """What advertises instead of telling."""

    max_phrases: float = Field(3.0, ge=0, description="Most phrases of the spam lists per 100 words.")
    min_phrases: int = Field(3, ge=1, description="Different phrases below which nothing is called spam.")
    max_address_ratio: Share = Field(0.75, description="Largest share of characters in addresses of links.")
    max_capital_ratio: Share = Field(0.8, description="Largest share of capitals among the letters.")


class Boilerplate(Options):
    """Lines that a page has and a text does not: they go, and with too many of them the document."""

    remove: bool = Field(True, description="Remove them from prose; otherwise they are only counted.")
    max_ratio: Share = Field(0.5, description="Largest share of a text's characters in such lines.")


class Terms(Options):
    """Words that must not be learnt."""

    max_harmful: float = Field(5.0, ge=0, description="Most words of the lists of harmful terms per 1,000 words.")
    min_harmful: int = Field(2, ge=1, description="Occurrences below which no document is called harmful.")
    banned: list[str] = Field(
        [],
        description="Terms that no document of any kind may have. `*` at an end leaves that end of the word open; "
        "Korean particles may follow.",
    )

    @field_validator("banned")
    @classmethod
    def _have_words(cls, value: list[str]) -> list[str]:
        if empty := [term for term in value if not any(map(str.isalnum, term))]:
            raise ValueError(f"{empty[0]!r} has no letter or digit")
        return value


class Perplexity(Options):
    """How well a small language model foresees running text."""

    model: Literal["none", "corpus"] = Field(
        "none",
        description="`corpus`: character n-grams learnt from the documents themselves; `none` measures nothing.",
    )
    sources: list[str] = Field(
        [], description="Sources to learn from, the good ones, with those below them; empty: all."
    )
    above: float = Field(
        0, ge=0, description="Perplexity of a word above which a document goes; 0 keeps all. See the report first."
    )

    @model_validator(mode="after")
    def _has_a_model(self) -> "Perplexity":
        if self.model == "none" and (self.above or self.sources):
            raise ValueError("above and sources need a model; set model: corpus")
        return self


class Code(Options):
    """What code must look like."""

    max_line: int = Field(1_000, ge=1, description="Longest line, in characters.")
    max_mean_line: int = Field(100, ge=1, description="Longest mean line, in characters.")
    min_alphanumeric_ratio: Share = Field(0.25, description="Least share of letters and digits among the characters.")
    max_run: int = Field(1_024, ge=1, description="Longest run of base-64 or hexadecimal characters.")
    generated: bool = Field(False, description="Keep files whose head says that a program wrote them.")


class Filter(Options):
    """The least quality a document must have. Sources of the thresholds: the step's README."""

    languages: list[str] = Field(
        ["en", "ko"], description="Languages to keep (BCP-47); code is not judged by language."
    )
    candidates: list[str] = Field(
        ["de", "en", "es", "fr", "ja", "ko", "pt", "ru", "zh"],
        description="Languages that identification chooses from.",
    )
    min_confidence: Share = Field(
        0.6, description="Least probability of the language; below it the language is `und`, and kept."
    )
    min_characters: int = Field(60, ge=0, description="Least characters that are not whitespace.")
    max_characters: int = Field(1_000_000, ge=1, description="Most characters.")
    min_quality: Share = Field(0.0, description="Least quality score.")
    prose: Prose = Field(default=Prose(), description="What running text must look like.")
    repetition: Repetition = Field(default=Repetition(), description="How much of it may say the same again.")
    spam: Spam = Field(default=Spam(), description="What advertises.")
    boilerplate: Boilerplate = Field(default=Boilerplate(), description="Lines of the page around a text.")
    terms: Terms = Field(default=Terms(), description="Words that must not be learnt.")
    perplexity: Perplexity = Field(default=Perplexity(), description="What no model would foresee.")
    code: Code = Field(default=Code(), description="What code must look like.")
