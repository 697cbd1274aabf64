"""Options of data/filter."""

from pydantic import Field

from components.common.options import Options


class Filter(Options):
    """The least quality a document must have. Sources of the thresholds: the step's README."""

    languages: list[str] = Field(
        ["en", "ko"], description="Languages to keep (BCP-47); code is not judged by language."
    )
    candidates: list[str] = Field(
        ["de", "en", "es", "fr", "ja", "ko", "pt", "ru", "zh"],
        description="Languages that identification chooses from.",
    )
    min_confidence: float = Field(
        0.6, ge=0, le=1, description="Least probability of the language; below it the language is `und`, and kept."
    )
    min_characters: int = Field(60, ge=0, description="Least characters that are not whitespace.")
    max_characters: int = Field(1_000_000, ge=1, description="Most characters.")
    min_alphabetic_ratio: float = Field(
        0.5, ge=0, le=1, description="Least share of letters among the visible characters of prose."
    )
    max_digit_ratio: float = Field(
        0.3, ge=0, le=1, description="Largest share of digits among the visible characters of prose."
    )
    max_symbol_ratio: float = Field(0.1, ge=0, description="Most `#` and `…` per word of prose.")
    max_duplicate_line_ratio: float = Field(
        0.3, ge=0, le=1, description="Largest share of lines that repeat an earlier line of prose."
    )
    max_duplicate_line_characters: float = Field(
        0.2, ge=0, le=1, description="Largest share of characters in such lines of prose."
    )
    max_top_ngram_ratio: float = Field(
        0.2, ge=0, le=1, description="Largest share of characters in the most frequent word 2-gram of prose."
    )
    max_code_line: int = Field(1_000, ge=1, description="Longest line of code, in characters.")
    max_code_mean_line: int = Field(100, ge=1, description="Longest mean line of code, in characters.")
    min_code_alphanumeric_ratio: float = Field(
        0.25, ge=0, le=1, description="Least share of letters and digits among the characters of code."
    )
