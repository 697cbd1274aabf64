"""Crawls a site politely: robots.txt by RFC 9309, one request at a time, nothing fetched twice that has not changed.

What was fetched stays in the store under `crawls/<source>`: a note for each page and the bodies by their hash. A crawl
that was broken off goes on where it was; the next one asks only whether pages have changed.
"""

import hashlib
import json
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from components.common.errors import HeadraceError
from components.common.ledger import canonical
from components.common.store import Store
from components.data.ingest.evidence import Evidence, evidence_key, keep, tags
from components.data.ingest.fetch import (
    REDIRECTS,
    Answer,
    Unanswered,
    Web,
    clean,
    path_of,
    private_places,
    split_origin,
)
from components.data.ingest.files import BINARY_FORMATS, FORMATS, LANGUAGES, File, read_file
from components.data.ingest.items import Found, Skipped, Unread
from components.data.ingest.options import Ingest
from components.data.ingest.pages import SITEMAP_BYTES, Page, in_utf8, read_page, read_sitemap, refused_by
from components.data.ingest.robots import BYTES, directives, read_reservations, read_robots, reserves
from components.data.sources import Source

FRESH = timedelta(hours=24)
"""How long a robots.txt counts (RFC 9309, 2.4)."""
RESUMED = timedelta(days=7)
"""How old a crawl that was broken off may be to go on where it was."""
SITEMAPS = 50
"""Most sitemaps of a site that are read."""
LINKS = 10_000
"""Most links of a page that are followed."""
ATTEMPTS = 3
LONGEST_WAIT = 120.0
"""Seconds that a busy server may ask to wait; one that asks for more is left alone."""
_SUFFIXES = {
    "application/pdf": ".pdf",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": ".pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": ".xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": ".docx",
    "application/x-ipynb+json": ".ipynb",
    "application/xhtml+xml": ".html",
    "text/csv": ".csv",
    "text/html": ".html",
    "text/markdown": ".md",
}
_KNOWN = FORMATS.keys() | BINARY_FORMATS.keys() | LANGUAGES.keys()


@dataclass(frozen=True)
class Note:
    """What is known of a page: in which crawl it answered and how, what it leads to, and where its body is.

    `problem` says why it has no body; `refusal` names what in its answer forbids to take it; `canonical` is the address
    that it calls its own.
    """

    url: str
    crawl: int
    status: int = 0
    etag: str = ""
    last_modified: str = ""
    content_type: str = ""
    sha256: str = ""
    retrieved_at: str = ""
    target: str = ""
    problem: str = ""
    refusal: str = ""
    canonical: str = ""
    links: tuple[str, ...] = ()


class Site:
    """Reader of a site: its location and what lies below it, from its sitemap and along links.

    Args:
        source: Declaration whose location is the address to begin with.
        options: Bounds on what is taken.
        store: Where pages are kept; None if only `state` is asked for.
        wait: How to wait between requests.
        refuses: Whether a document was erased, so that its page is not kept either.
    """

    def __init__(
        self,
        source: Source,
        options: Ingest,
        store: Store | None,
        wait: Callable[[float], None] = time.sleep,
        refuses: Callable[[Mapping[str, Any]], bool] = lambda row: False,
    ) -> None:
        self._source = source
        self._options = options
        self._store = store
        self._refuses = refuses
        self._wait = wait

    def __len__(self) -> int:
        """Count the pages that may be requested at most."""
        return self._source.crawl.max_pages

    def state(self) -> Iterator[str]:
        """Yield the period for which a crawl counts as fresh: the declared cadence's day, week, month or moment."""
        now = datetime.now(UTC)
        forms = {"daily": "%Y-%m-%d", "weekly": "%G-W%V", "monthly": "%Y-%m", "on_change": "%Y-%m-%dT%H:%M:%S.%f"}
        yield now.strftime(forms.get(self._source.cadence, "once"))

    def read(self) -> Iterator[Iterable[Found]]:
        """Yield what the site says about crawlers, then each page's documents in the order in which they are found.

        Raises:
            HeadraceError: robots.txt cannot be had, which by RFC 9309 forbids everything.
        """
        assert self._store is not None
        with (
            Web(self._source.crawl.user_agent, private_places(self._source)) as web,
            tempfile.TemporaryDirectory(prefix="headrace-crawl-") as folder,
        ):
            yield from _Crawl(
                self._source, self._options, self._store, self._refuses, self._wait, web, Path(folder)
            ).run()


class _Crawl:
    """One visit to a site."""

    def __init__(
        self,
        source: Source,
        options: Ingest,
        store: Store,
        refuses: Callable[[Mapping[str, Any]], bool],
        wait: Callable[[float], None],
        web: Web,
        folder: Path,
    ) -> None:
        self._source = source
        self._options = options
        self._store = store
        self._refuses = refuses
        self._wait = wait
        self._web = web
        self._copy = folder / "page"
        self._start = clean(source.location)
        self._below = self._start.rstrip("/") + "/"
        self._product = source.crawl.user_agent.partition("/")[0].partition(" ")[0]
        self._requested = False
        self._delay = source.crawl.seconds_between
        self._rules = read_robots("", self._product)
        self._reserved = read_reservations(b"")
        self._evidence: list[Evidence] = []
        self._read_at = datetime.min.replace(tzinfo=UTC)
        self._queue: deque[tuple[str, int]] = deque()
        self._seen: set[str] = set()
        self._full = False

    def run(self) -> Iterator[Iterable[Found]]:
        crawl = self._begin()
        self._ask_what_is_allowed()
        yield self._evidence
        self._enter([self._start, *self._sitemap()])
        asked = 0
        while self._queue and asked < self._source.crawl.max_pages:
            url, redirects = self._queue.popleft()
            if datetime.now(UTC) - self._read_at > FRESH:
                self._ask_what_is_allowed()
                yield self._evidence
            if rule := self._rules.refuses(path_of(url)) or reserves(self._reserved, path_of(url)):
                yield [Skipped(Unread.REFUSED, url, rule)]
                continue
            asked += 1
            yield self._take(self._note(url, crawl), redirects)
        if self._queue or self._full:
            most = self._source.crawl.max_pages
            yield [Skipped(Unread.BEYOND, self._start, f"more than {most:,} pages; raise crawl.max_pages")]
        self._end(crawl)

    def _take(self, note: Note, redirects: int) -> Iterable[Found]:
        """Give the documents of a page, and note where it leads."""
        if self._source.crawl.follow_links:
            self._enter(note.links)
        if note.target:
            if redirects == REDIRECTS:
                return [Skipped(Unread.UNREACHABLE, note.url, f"more than {REDIRECTS} redirects")]
            if not self._covers(note.target):
                return [Skipped(Unread.OUTSIDE, note.url, f"it leads to {note.target}")]
            self._enter([note.target], redirects + 1)
            return []
        if note.refusal:
            return [Skipped(Unread.REFUSED, note.url, note.refusal)]
        if not note.sha256:
            return [Skipped(Unread.UNREACHABLE, note.url, note.problem)]
        suffix = _suffix(note)
        body = self._store.read(self._body_key(note.sha256))
        self._copy.write_bytes(body if suffix in BINARY_FORMATS else in_utf8(body, note.content_type))
        name = note.canonical if self._covers(note.canonical) else note.url
        said = {"robots": "allowed", **tags(self._evidence), **({"fetched_from": note.url} if name != note.url else {})}
        file = File(self._copy, name, datetime.fromisoformat(note.retrieved_at), said, suffix)
        documents = list(read_file(file, self._source, self._options))
        if any(isinstance(one, dict) and self._refuses(one) for one in documents):
            self._store.delete(self._body_key(note.sha256))
        return documents

    def _covers(self, url: str) -> bool:
        """Tell whether an address is the declared one or lies below it."""
        return url == self._start or url.startswith(self._below)

    def _enter(self, urls: Iterable[str], redirects: int = 0) -> None:
        """Line up addresses that are covered and new; where a redirect leads comes next."""
        for url in filter(self._covers, map(clean, urls)):
            if url in self._seen:
                continue
            if len(self._seen) >= 10 * self._source.crawl.max_pages:  # nobody will come to it
                self._full = True
                return
            self._seen.add(url)
            if redirects:
                self._queue.appendleft((url, redirects))
            else:
                self._queue.append((url, 0))

    def _request(self, url: str, most: int, headers: dict[str, str] | None = None, *, cut: bool = False) -> Answer:
        """Ask after the wait that is due; a server that is busy is asked again when it says.

        Raises:
            Unanswered: There is no answer, or the server asks for a wait that is too long.
        """
        attempt = 0
        while True:
            if self._requested:
                self._wait(self._delay)
            self._requested = True
            answer = self._web.get(url, most, headers, cut=cut)
            attempt += 1
            if answer.status not in (429, 503) or attempt == ATTEMPTS:
                return answer
            wait = _retry_after(answer.headers.get("retry-after", "")) or self._delay * 2**attempt
            if wait > LONGEST_WAIT:
                raise Unanswered(f"HTTP {answer.status}, and to come back in {wait:,.0f} seconds")
            self._wait(wait)

    def _ask_what_is_allowed(self) -> None:
        """Read robots.txt and the site's reservations, as they were kept if that is not longer ago than a day.

        Raises:
            HeadraceError: robots.txt cannot be had.
        """
        robots, robots_at = self._site_file("robots", "/robots.txt")
        reservations, reserved_at = self._site_file("reservations", "/.well-known/tdmrep.json")
        self._rules = read_robots(self._kept(robots).decode("utf-8", "replace"), self._product)
        self._reserved = read_reservations(self._kept(reservations))
        self._evidence = [robots, *([reservations] if self._reserved else [])]
        self._read_at = min(robots_at, reserved_at)
        self._delay = max(self._source.crawl.seconds_between, self._rules.delay)

    def _kept(self, item: Evidence) -> bytes:
        data = self._store.read(evidence_key(item.sha256)) if item.sha256 else b""
        return data if len(data) < BYTES else data[: data.rfind(b"\n") + 1]  # half a rule would be another one

    def _site_file(self, what: str, path: str) -> tuple[Evidence, datetime]:
        """Give a file of rules of the site and when it was fetched."""
        key = self._key(f"{what}.json")
        url = urljoin(self._start, path)
        now = datetime.now(UTC)
        if self._store.exists(key):
            known = json.loads(self._store.read(key))
            fetched_at = datetime.fromisoformat(known["fetched_at"])
            if now - fetched_at < FRESH and known["url"] == url:
                return Evidence(**known["evidence"]), fetched_at
        try:
            answer = self._request(url, BYTES, cut=True)
            for _ in range(REDIRECTS):
                if not answer.target:
                    break
                answer = self._request(answer.target, BYTES, cut=True)
            # Too many redirects, like any 4xx but "too many requests", mean that there is no such file.
            problem = f"HTTP {answer.status}" if answer.status >= 500 or answer.status == 429 else ""
        except Unanswered as error:
            problem = str(error)
        if problem and what == "robots":
            raise HeadraceError(
                f"source {self._source.id}: {url} cannot be had: {problem}, which forbids crawling (RFC 9309, "
                "2.3.1.4); try again later"
            )
        if problem or not answer.ok:
            nothing = f"{problem or f'HTTP {answer.status}'}: it forbids nothing"
            item = Evidence(self._source.id, what, url, problem=nothing)
        else:
            item = keep(self._store, self._source.id, what, url, answer.body)
        said = {"url": url, "fetched_at": now.isoformat(), "evidence": asdict(item)}
        self._store.write(key, canonical(said))
        return item, now

    def _sitemap(self) -> list[str]:
        """Give the pages of the site's sitemaps in their order."""
        pending = deque(self._rules.sitemaps or (urljoin(self._start, "/sitemap.xml"),))
        read: set[str] = set()
        found: list[str] = []
        most = 10 * self._source.crawl.max_pages
        while pending and len(read) < SITEMAPS and len(found) < most:
            url = clean(urljoin(self._start, pending.popleft()))
            here = bool(url) and split_origin(url) == split_origin(self._start)
            if not here or url in read or self._rules.refuses(path_of(url)):
                continue
            read.add(url)
            try:
                answer = self._request(url, SITEMAP_BYTES)
            except Unanswered:
                continue
            if answer.target:
                pending.append(answer.target)
            elif answer.ok:
                maps, pages = read_sitemap(answer.body)
                pending.extend(maps[:SITEMAPS])
                found += filter(self._covers, map(clean, pages))
        return found[:most]

    def _note(self, url: str, crawl: int) -> Note:
        """Say how a page is now: from this crawl's notes, from an answer, or from the body that an answer confirms."""
        key = self._key(f"pages/{hashlib.sha256(url.encode()).hexdigest()}.json")
        known = _read_note(self._store.read(key)) if self._store.exists(key) else Note(url, 0)
        has_body = bool(known.sha256) and self._store.exists(self._body_key(known.sha256))
        if known.crawl == crawl and (has_body or known.target or known.refusal):
            return known
        conditions = {"If-None-Match": known.etag, "If-Modified-Since": known.last_modified} if has_body else {}
        try:
            headers = {name: value for name, value in conditions.items() if value}
            answer = self._request(url, self._options.max_binary_bytes, headers)
        except Unanswered as error:
            note = Note(url, crawl, problem=str(error))
        else:
            note = self._noted(url, crawl, known, answer)
        self._store.write(key, canonical(asdict(note)))
        return note

    def _noted(self, url: str, crawl: int, known: Note, answer: Answer) -> Note:
        said = answer.headers
        if answer.target:
            return Note(url, crawl, answer.status, target=answer.target)
        reserved = said.get("tdm-reservation", "").strip() == "1"
        wants = directives(said.get("x-robots-tag", "").splitlines(), self._product)
        refusal = "its tdm-reservation header is 1" if reserved else refused_by(wants, "its X-Robots-Tag header")
        if refusal:  # a copy of it is not kept either
            return Note(url, crawl, answer.status, refusal=refusal)
        if answer.status == 304 and known.sha256:
            return replace(known, crawl=crawl)
        if not answer.ok:
            return Note(url, crawl, answer.status, problem=f"HTTP {answer.status}")
        content_type = said.get("content-type", "").lower()
        page = Page()
        if "html" in content_type:
            page = read_page(in_utf8(answer.body, content_type), url, self._product)
        links = () if "nofollow" in wants else page.links[:LINKS]
        if page.refusal:
            return Note(url, crawl, answer.status, refusal=page.refusal, links=links)
        name = hashlib.sha256(answer.body).hexdigest()
        self._store.write(self._body_key(name), answer.body, if_absent=True)
        now = datetime.now(UTC).replace(microsecond=0)
        modified = said.get("last-modified", "")
        retrieved = known.retrieved_at if known.sha256 == name else min(_http_date(modified) or now, now).isoformat()
        return Note(
            url,
            crawl,
            answer.status,
            etag=said.get("etag", ""),
            last_modified=modified,
            content_type=content_type,
            sha256=name,
            retrieved_at=retrieved,
            canonical=page.canonical,
            links=links,
        )

    def _begin(self) -> int:
        """Tell the number of this crawl: the last one's if that was broken off not long ago."""
        key = self._key("crawl.json")
        now = datetime.now(UTC)
        number = 1
        if self._store.exists(key):
            last = json.loads(self._store.read(key))
            goes_on = not last["ended"] and now - datetime.fromisoformat(last["began_at"]) < RESUMED
            if goes_on:
                return int(last["number"])
            number = int(last["number"]) + 1
        self._store.write(key, canonical({"number": number, "began_at": now.isoformat(), "ended": False}))
        return number

    def _end(self, crawl: int) -> None:
        now = datetime.now(UTC).isoformat()
        self._store.write(self._key("crawl.json"), canonical({"number": crawl, "began_at": now, "ended": True}))

    def _key(self, name: str) -> str:
        return f"crawls/{self._source.id}/{name}"

    def _body_key(self, sha256: str) -> str:
        return self._key(f"bodies/{sha256}")


def _read_note(data: bytes) -> Note:
    note = json.loads(data)
    return Note(**{**note, "links": tuple(note["links"])})


def _suffix(note: Note) -> str:
    """Tell a page's format by what its server calls it, and where that is no more than text by its address.

    Records and mailboxes are no pages: a site cannot declare licences and confidentiality of its own.
    """
    kind = note.content_type.partition(";")[0].strip()
    if kind in _SUFFIXES:
        return _SUFFIXES[kind]
    named = Path(urlsplit(note.url).path).suffix.lower()
    if named in _KNOWN:
        return named
    return ".txt" if kind == "text/plain" else f"({kind or 'no type'})"


def _retry_after(value: str) -> float:
    """Read how long a server asks to wait; 0 if it does not say."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    time = _http_date(value)
    return max(0.0, (time - datetime.now(UTC)).total_seconds()) if time else 0.0


def _http_date(value: str) -> datetime | None:
    try:
        return parsedate_to_datetime(value).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
