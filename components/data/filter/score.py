"""The quality score: how far a document is from the limits of the rules, as one number from 0 to 1.

The mean of parts, each from 0 (at a limit) to 1 (as good as it gets); which parts depends on the kind. The README lists
them. A score compares documents of a kind: deduplication keeps the better of two that say the same.
"""

import numpy as np

from components.data.filter.measure import Floats
from components.data.filter.options import Filter
from components.data.filter.rules import CODE, PROSE, RUNNING, Facts

LETTERS, STOP_WORDS, TERMINALS, ALPHANUMERIC, CHARACTERS = 0.8, 0.2, 0.5, 0.65, 1_000
"""Where a part is 1: shares that good text has, and characters (in running text, of its words) that say something."""


def score(facts: Facts, options: Filter) -> Floats:
    """Score a batch.

    Args:
        facts: What is known of the documents.
        options: The limits.
    """
    m, p, r, c = facts.measures, options.prose, options.repetition, options.code
    repeated = [
        _of_limit(m.repeated_lines, r.max_lines),
        _of_limit(m.repeated_line_characters, r.max_line_characters),
        _of_limit(m.repeated_paragraphs, r.max_paragraphs),
        _of_limit(m.repeated_paragraph_characters, r.max_paragraph_characters),
        *(_of_limit(value, limit) for value, limit in zip(m.top_ngrams, r.max_top_ngrams, strict=True)),
        *(_of_limit(value, limit) for value, limit in zip(m.duplicate_ngrams, r.max_duplicate_ngrams, strict=True)),
    ]
    around = [
        _of_limit(facts.boilerplate, options.boilerplate.max_ratio),
        _of_limit(m.addresses, options.spam.max_address_ratio),
        _of_limit(m.symbols, p.max_symbol_ratio),
        _of_limit(100 * facts.spam / np.maximum(m.words, 1), options.spam.max_phrases),
    ]
    said = np.where(facts.of(*RUNNING), m.words * m.word_length, m.characters)
    length = _rise(np.log(np.maximum(said, 1)), np.log(max(options.min_characters, 1)), np.log(CHARACTERS))
    running = [
        _rise(m.letters, p.min_alphabetic_ratio, LETTERS),
        1 - np.max(repeated, axis=0),
        _rise(m.stop_words, 0, STOP_WORDS),
        1 - np.max(around, axis=0),
        length,
    ]
    lines = np.maximum(_of_limit(m.longest_line, c.max_line), _of_limit(m.mean_line, c.max_mean_line))
    code = [
        1 - lines,
        _rise(m.alphanumeric, c.min_alphanumeric_ratio, ALPHANUMERIC),
        1 - _of_limit(m.longest_run, c.max_run),
        length,
    ]
    sentences = _rise(m.terminals, 0, TERMINALS)
    other = [_rise(m.alphanumeric, 0, ALPHANUMERIC), length]
    return np.select(
        [facts.of(*PROSE), facts.of(*RUNNING), facts.of(*CODE)],
        [np.mean([*running, sentences], axis=0), np.mean(running, axis=0), np.mean(code, axis=0)],
        np.mean(other, axis=0),
    )


def _rise(values: Floats, zero: float, one: float) -> Floats:
    """Map a range to 0 and 1; what is beyond stays at the end."""
    return np.clip((values - zero) / max(one - zero, 1e-9), 0, 1)


def _of_limit(values: Floats, limit: float) -> Floats:
    return np.clip(values / max(limit, 1e-9), 0, 1)
