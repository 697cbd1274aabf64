"""Reads the objects below a prefix of a Cloud Storage bucket, each as the file that it is."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.api_core.exceptions import GoogleAPIError

from components.common.errors import HeadraceError, UsageError
from components.common.store import open_store
from components.data.ingest.files import File, read_file
from components.data.ingest.items import Found, Skipped, Unread
from components.data.ingest.options import Ingest
from components.data.sources import Source


class Bucket:
    """Reader of the objects below `gs://bucket/prefix`, hidden ones left out; one at a time is copied here.

    Args:
        source: Declaration whose location is the prefix.
        options: Bounds on what is taken.
    """

    def __init__(self, source: Source, options: Ingest) -> None:
        self._source = source
        self._options = options
        self._store = open_store(source.location)
        try:
            self._objects = [
                stored
                for stored in self._store.describe()
                if stored.key and not any(part.startswith(".") or not part for part in stored.key.split("/"))
            ]
        except GoogleAPIError as error:
            problem = getattr(error, "message", "") or type(error).__name__
            raise UsageError(f"source {source.id}: location {source.location} cannot be listed: {problem}") from error

    def __len__(self) -> int:
        """Count the objects."""
        return len(self._objects)

    def state(self) -> Iterator[str]:
        """Yield names, sizes and times of writing."""
        for stored in self._objects:
            yield f"{stored.key} {stored.size} {stored.written.isoformat()}"

    def read(self) -> Iterator[Iterable[Found]]:
        """Yield each object's documents, by name."""
        with tempfile.TemporaryDirectory(prefix="headrace-gs-") as folder:
            copy = Path(folder) / "object"
            for stored in self._objects:
                try:
                    self._store.download(stored.key, copy)
                except (GoogleAPIError, HeadraceError) as error:
                    yield [Skipped(Unread.UNREADABLE, stored.key, type(error).__name__)]
                    continue
                file = File(copy, stored.key, stored.written.replace(microsecond=0))
                yield read_file(file, self._source, self._options)
