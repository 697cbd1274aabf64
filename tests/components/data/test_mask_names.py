"""People and places in sentences, in English and Korean."""

import pytest

from tests.benchmarks.labelled import Language
from tests.benchmarks.named import named

COMMON = {"김", "이", "박"}


@pytest.mark.parametrize("language", ["en", "ko"])
def test_what_judges_shares_no_sentence_and_no_name_with_what_was_developed_on(language: Language) -> None:
    dev, test = (named(split, language, 1_000) for split in ("dev", "test"))
    assert not {one.text for one in dev} & {one.text for one in test}
    spans = [{one.text[start:end] for one in split for start, end, _ in one.spans} for split in (dev, test)]
    assert len(spans[0]) > 300 and len(spans[1]) > 300
    assert spans[0] & spans[1] <= COMMON
