import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from components.model.tune.chunks import borders, split


@given(st.data(), st.integers(1, 300), st.integers(16, 64), st.integers(0, 7))
def test_what_is_fresh_in_the_chunks_is_the_sequence(data, length: int, room: int, overlap: int) -> None:
    strengths = np.array(data.draw(st.lists(st.integers(0, 3), min_size=length, max_size=length)), np.int8)
    chunks = split(length, room, overlap, strengths)
    assert [token for chunk in chunks for token in range(chunk.fresh, chunk.stop)] == list(range(length))
    assert all(chunk.stop - chunk.start <= room for chunk in chunks)
    assert [chunk.fresh - chunk.start for chunk in chunks] == [0, *[overlap] * (len(chunks) - 1)]
    assert all(2 * (chunk.stop - chunk.start) >= room for chunk in chunks[:-1])


def test_a_chunk_ends_at_the_last_of_the_strongest_borders_in_reach() -> None:
    strengths = np.zeros(100, np.int8)
    strengths[[4, 11, 13, 15]] = [3, 2, 2, 1]
    assert split(100, 16, 0, strengths)[0].stop == 13
    assert split(100, 16, 0, np.zeros(100, np.int8))[0].stop == 16


def test_paragraphs_bind_less_than_lines_and_lines_less_than_sentences() -> None:
    text = "One. 둘이다. Three\nline\n\n# Head\nend\n\nof"
    words = ["One.", " 둘이다.", " Three", "\n", "line", "\n\n", "# Head", "\n", "end", "\n\n", "of"]
    starts = np.cumsum([0, *[len(word) for word in words[:-1]]])
    assert borders(text, starts).tolist() == [0, 1, 1, 0, 2, 0, 4, 0, 2, 0, 3]
