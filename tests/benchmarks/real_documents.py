"""Documents for benchmarks, any number of them: real text of the installed packages, with duplicates made of it.

    python tests/benchmarks/real_documents.py 1000000 FOLDER

The same packages and number give the same documents. Seven of ten are new: pieces of one to five files, or one in five
of them Korean, lines of Korean documentation. Two of ten are an earlier one with up to one word in twenty changed, one
is an earlier one as it was.
"""

import random
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import numpy as np

from components.common.documents import DocumentWriter, new_document

_REMEMBERED = 20_000
_KOREAN = re.compile(r"[가-힣].*[가-힣]")


def real_documents(number: int) -> Iterator[str]:
    """Make documents, every one of them from a fixed draw."""
    draw = random.Random(1)
    files = _files()
    draw.shuffle(files)
    korean = sorted({line for text in files for line in text.splitlines() if _KOREAN.search(line) and len(line) > 30})
    earlier: list[str] = []
    for _ in range(number):
        kind = draw.random()
        if kind < 0.7 or not earlier:
            text = "\n".join(draw.choices(korean, k=20)) if kind < 0.14 else "\n".join(_pieces(files, draw))
        else:
            text = draw.choice(earlier)
            if kind < 0.9:
                text = _edited(text, draw.choice([0.002, 0.01, 0.02, 0.05]), draw)
        if len(earlier) < _REMEMBERED:
            earlier.append(text)
        else:
            earlier[draw.randrange(_REMEMBERED)] = text
        yield text


def write_documents(number: int, folder: Path) -> None:
    """Write them as an artifact of documents."""
    when = datetime(2026, 1, 1, tzinfo=UTC)
    rows = (
        new_document(source="packages", url=str(at), text=text, retrieved_at=when, license="MIT")
        for at, text in enumerate(real_documents(number))
    )
    with DocumentWriter(folder) as writer:
        while chunk := list(islice(rows, 5_000)):
            writer.write(chunk)


def _files() -> list[str]:
    site = Path(np.__file__).parents[1]
    found = sorted(path for end in ("*.py", "*.md", "*.rst", "METADATA") for path in site.rglob(end))
    texts = (path.read_text("utf-8", errors="ignore") for path in found)
    return [text for text in texts if 500 < len(text) < 200_000]


def _pieces(files: list[str], draw: random.Random) -> Iterator[str]:
    for text in draw.choices(files, k=draw.randint(1, 5)):
        at = draw.randrange(len(text))
        yield text[at : at + 1_500]


def _edited(text: str, share: float, draw: random.Random) -> str:
    words = text.split(" ")
    for _ in range(max(1, round(share * len(words)))):
        words[draw.randrange(len(words))] = f"changed{draw.randrange(99)}"
    return " ".join(words)


if __name__ == "__main__":
    write_documents(int(sys.argv[1]), Path(sys.argv[2]))
