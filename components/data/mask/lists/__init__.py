"""Lists of names and of places, and how they are read. Each begins with what it is and where it comes from."""

from pathlib import Path


def words_of(text: str) -> frozenset[str]:
    """Make a set of the words of a text."""
    return frozenset(text.split())


def read_list(name: str) -> list[str]:
    """Read a list of this folder, in its order and in lower case."""
    lines = Path(__file__).with_name(name).read_text("utf-8").splitlines()
    return [line.casefold() for line in lines if line and not line.startswith("#")]
