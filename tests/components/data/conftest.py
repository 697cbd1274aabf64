"""Where data steps run in the tests, and how to make documents for them."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from components.common.documents import DocumentWriter, new_document
from components.common.environment import Environment


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment whose store is empty."""
    return Environment(
        name="test",
        home=str(tmp_path),
        store=f"file://{tmp_path}/store",
        tracking="",
        signing_key=str(tmp_path / "ledger.pem"),
    )


@pytest.fixture(scope="session")
def document() -> Callable[..., dict[str, Any]]:
    """Make a document of a text; the fields given replace the defaults."""

    def make(text: str, url: str = "", **fields: Any) -> dict[str, Any]:
        when = datetime(2026, 1, 1, tzinfo=UTC)
        return new_document(**{"source": "test", "url": url or "doc", "text": text, "retrieved_at": when, **fields})

    return make


@pytest.fixture
def written(tmp_path: Path) -> Callable[[Iterable[dict[str, Any]]], Path]:
    """Write rows as an artifact of documents; each call gets a folder of its own."""
    made = iter(range(1000))

    def write(rows: Iterable[dict[str, Any]]) -> Path:
        folder = tmp_path / f"documents-{next(made)}"
        with DocumentWriter(folder) as writer:
            writer.write(rows)
        return folder

    return write
