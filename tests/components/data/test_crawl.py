"""A site is crawled politely, within what was declared, from a real server."""

import gzip
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reportlab.pdfgen.canvas import Canvas

from components.common.documents import part_files, read_table
from components.common.environment import Environment
from components.common.errors import HeadraceError
from components.common.keys import erasure_key
from components.common.ledger import sha256
from components.common.step import Context, Outcome
from components.common.store import open_store
from components.data.ingest import fetch
from components.data.ingest.crawl import Site
from components.data.ingest.fetch import TooLong, Unanswered, Web, clean, is_public
from components.data.ingest.options import Ingest
from components.data.ingest.pages import in_utf8, read_page, read_sitemap
from components.data.ingest.read import REFUSALS, run
from components.data.sources import Source
from components.operations.erase.request import Request, seal
from components.operations.erase.work import erase, open_request

HTML = {"Content-Type": "text/html; charset=utf-8"}
Reply = tuple[int, dict[str, str], bytes]


def page(*links: str, head: str = "", text: str = "Words of the page.") -> Reply:
    anchors = "".join(f'<a href="{link}">x</a>' for link in links)
    return 200, HTML, f"<html><head>{head}</head><body><p>{text}</p>{anchors}</body></html>".encode()


def moved(target: str) -> Reply:
    return 302, {"Location": target}, b""


class Server:
    """A web server whose pages are a dictionary, and that remembers what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, Reply | Callable[[dict[str, str]], Reply]] = {}
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                outer.asked.append(self.path)
                outer.headers.append(headers)
                given = outer.pages.get(self.path, (404, {}, b"none"))
                status, said, body = given(headers) if callable(given) else given
                self.send_response(status)
                for name, value in said.items():
                    for part in value.split("\n"):
                        self.send_header(name, part)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def elsewhere() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def source(location: str, **fields: Any) -> Source:
    declared = {"id": "web", "license": "MIT", "owner": "me", "confidentiality": "public", "location": location}
    return Source.model_validate(declared | {"crawl": {"seconds_between": 0}} | fields)


class Crawled:
    """What a crawl gave: documents by address, refusals, and what the report says."""

    def __init__(self, folder: Path, outcome: Outcome) -> None:
        self.folder = folder
        self.outcome = outcome
        self.rows = {row["url"]: row | {"metadata": dict(row["metadata"])} for row in read_table(folder).to_pylist()}
        refusals = folder / REFUSALS
        lines = refusals.read_text().splitlines() if refusals.exists() else []
        self.refused = {row["url"]: row["rule"] for row in map(json.loads, lines)}
        self.report = outcome.report.html()


@pytest.fixture
def read(tmp_path: Path, environment: Environment) -> Callable[..., Crawled]:
    numbers = iter(range(100))

    def crawl_site(*sources: Source, **options: Any) -> Crawled:
        folder = tmp_path / f"out-{next(numbers)}"
        outcome = run(folder, Ingest(sources=list(sources), **options), Context("data/ingest", environment))
        return Crawled(folder, outcome)

    return crawl_site


def test_a_site_is_read_below_its_location_in_the_order_it_is_found_and_again_as_the_same_bytes(site, read):
    site.pages = {
        "/docs": moved("/docs/"),
        "/docs/": page("b.html", "a.html#part", "../secret.html", "/docs/%2e%2e/out.html", "mailto:x@y", "A.html?"),
        "/docs/b.html": page("deep/c.html", text="둘째 문서입니다."),
        "/docs/a.html": page("/docs/b.html"),
        "/docs/deep/c.html": page(),
        "/docs/listed.txt": (200, {"Content-Type": "text/plain; charset=euc-kr"}, "설명서 \ub620".encode("cp949")),
        "/sitemap.xml": (200, {}, f"<urlset><url><loc>{site.url}/docs/listed.txt</loc></url></urlset>".encode()),
        "/secret.html": page(text="Not declared."),
        "/out.html": page(text="Not declared."),
    }
    first = read(source(f"{site.url}/docs"))
    assert [url.removeprefix(site.url) for url in first.rows] == [
        "/docs/",
        "/docs/listed.txt",
        "/docs/b.html",
        "/docs/a.html",
        "/docs/deep/c.html",
    ]
    assert not {"/secret.html", "/out.html"} & set(site.asked)
    assert first.rows[f"{site.url}/docs/listed.txt"]["text"] == "설명서 \ub620"
    assert first.rows[f"{site.url}/docs/b.html"]["metadata"]["robots"] == "allowed"
    assert {headers["user-agent"] for headers in site.headers} == {"Headrace/0.1"}
    assert site.asked[:3] == ["/robots.txt", "/.well-known/tdmrep.json", "/sitemap.xml"]
    again = read(source(f"{site.url}/docs"))
    assert [part.read_bytes() for part in part_files(first.folder)] == [
        part.read_bytes() for part in part_files(again.folder)
    ]
    assert (first.folder / "evidence.json").read_bytes() == (again.folder / "evidence.json").read_bytes()


def test_what_robots_txt_forbids_is_not_asked_for_and_the_line_is_recorded(site, read, environment):
    rules = b"User-agent: *\nDisallow: /\n\nUser-agent: headrace\nDisallow: /private\nAllow: /private/open\n"
    site.pages = {
        "/robots.txt": (200, {"Content-Type": "text/plain"}, rules),
        "/": page("/private/a", "/private/open", "/%70rivate/b"),
        "/private/open": page(),
        "/private/a": page(),
    }
    found = read(source(f"{site.url}/"))
    assert found.refused == {
        f"{site.url}/private/a": "robots.txt, line 5: Disallow: /private",
        f"{site.url}/private/b": "robots.txt, line 5: Disallow: /private",
    }
    assert "/private/a" not in site.asked
    assert list(found.rows) == [f"{site.url}/", f"{site.url}/private/open"]
    assert found.outcome.dropped == {"refused": 2}
    assert "robots.txt, line 5: Disallow: /private" in found.report
    [kept] = json.loads((found.folder / "evidence.json").read_text())
    assert (kept["what"], kept["sha256"]) == ("robots", sha256(rules))
    assert open_store(environment.store).read(f"evidence/{kept['sha256']}") == rules
    assert {row["metadata"]["robots_sha256"] for row in found.rows.values()} == {kept["sha256"]}


@pytest.mark.parametrize("status", [301, 403, 404, 410])
def test_a_robots_txt_that_is_not_there_forbids_nothing(status, site, read):
    site.pages = {"/": page(), "/robots.txt": (status, {"Location": "/robots.txt"} if status == 301 else {}, b"")}
    found = read(source(f"{site.url}/"))
    assert len(found.rows) == 1
    assert f"HTTP {status}: it forbids nothing" in found.report
    assert site.asked.count("/robots.txt") == (6 if status == 301 else 1)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_robots_txt_that_cannot_be_had_forbids_everything(status, site, read):
    site.pages = {"/": page(), "/robots.txt": (status, {"Retry-After": "0"}, b"")}
    with pytest.raises(HeadraceError, match=rf"source web: .*robots.txt cannot be had: HTTP {status}.*2.3.1.4"):
        read(source(f"{site.url}/"))
    assert set(site.asked) == {"/robots.txt"}
    site.close()
    with pytest.raises(HeadraceError, match=r"robots.txt cannot be had: no answer"):
        read(source(f"{site.url}/"))


def test_robots_txt_is_read_by_way_of_five_redirects_and_no_further_than_500_kib(site, read):
    filler = b"#" * 79 + b"\n"
    rules = b"User-agent: *\nDisallow: /a\n" + filler * (500 * 1024 // 80) + b"Disallow: /b\n"
    site.pages = {f"/r{number}": moved(f"/r{number + 1}") for number in range(1, 5)}
    site.pages |= {"/robots.txt": moved("/r1"), "/r5": (200, {}, rules), "/": page("/a", "/b"), "/b": page()}
    found = read(source(f"{site.url}/"))
    assert list(found.refused) == [f"{site.url}/a"]
    assert f"{site.url}/b" in found.rows


def test_robots_txt_is_kept_for_a_day(site, read, environment):
    site.pages = {"/": page()}
    read(source(f"{site.url}/"))
    site.pages["/robots.txt"] = (200, {}, b"User-agent: *\nDisallow: /\n")
    assert read(source(f"{site.url}/")).refused == {}
    store, key = open_store(environment.store), "crawls/web/robots.json"
    known = json.loads(store.read(key))
    known["fetched_at"] = (datetime.now(UTC) - timedelta(hours=25)).isoformat()
    store.write(key, json.dumps(known).encode())
    with pytest.raises(HeadraceError, match=r"nothing to read in .* \(1 refused\)"):
        read(source(f"{site.url}/"))
    assert site.asked.count("/robots.txt") == 2


def test_pages_and_servers_may_forbid_their_use_and_leave_no_copy(site, read, environment):
    robots = {"X-Robots-Tag": "otherbot: noindex\nnoai", "Content-Type": "text/html"}
    site.pages = {
        "/": page("/none", "/noai", "/tdm", "/meta", "/me", "/quiet", "/free/a", "/kept/b"),
        "/none": page("/linked", head='<meta name="robots" content="noindex">'),
        "/linked": page(),
        "/noai": (200, robots, b"<p>No copy of this."),
        "/tdm": (200, HTML | {"TDM-Reservation": "1"}, b"<p>No copy of this."),
        "/meta": page(head='<meta name="tdm-reservation" content="1">'),
        "/me": page(head='<META NAME="Headrace" CONTENT="noai, nofollow">'),
        "/quiet": page("/unlinked", head='<meta name="robots" content="nofollow">'),
        "/free/a": page(),
        "/kept/b": page(),
        "/.well-known/tdmrep.json": (200, {}, b'[{"location": "/kept/*", "tdm-reservation": 1}]'),
    }
    found = read(source(f"{site.url}/"))
    assert {url.removeprefix(site.url): rule for url, rule in found.refused.items()} == {
        "/none": "the page's robots element says noindex",
        "/noai": "its X-Robots-Tag header says noai",
        "/tdm": "its tdm-reservation header is 1",
        "/meta": "the page's tdm-reservation is 1",
        "/me": "the page's robots element says noai",
        "/kept/b": "tdmrep.json, entry 1: /kept/* is reserved",
    }
    assert [url.removeprefix(site.url) for url in found.rows] == ["/", "/quiet", "/free/a", "/linked"]
    assert not {"/unlinked", "/kept/b"} & set(site.asked)
    store = open_store(environment.store)
    assert not any(b"No copy of this" in store.read(key) for key in store.list("crawls/"))
    assert "reservations_sha256" in next(iter(found.rows.values()))["metadata"]


def test_the_next_crawl_asks_only_what_changed(site, read, environment):
    now = [b"<p>One.</p>"]

    def changing(headers: dict[str, str]) -> Reply:
        tag = f'"{len(now)}"'
        return (304, {}, b"") if headers.get("if-none-match") == tag else (200, HTML | {"ETag": tag}, now[-1])

    def dated(headers: dict[str, str]) -> Reply:
        when = "Thu, 01 Jan 2026 10:00:00 GMT"
        same = headers.get("if-modified-since") == when
        return (304, {}, b"") if same else (200, HTML | {"Last-Modified": when}, b"<p>Two.</p>")

    site.pages = {"/": page("/one", "/two"), "/one": changing, "/two": dated}
    first = read(source(f"{site.url}/"))
    assert first.rows[f"{site.url}/two"]["retrieved_at"] == datetime(2026, 1, 1, 10, tzinfo=UTC)
    assert read(source(f"{site.url}/")).rows == first.rows
    now.append(b"<p>New.</p>")
    again = read(source(f"{site.url}/"))
    assert "New." in again.rows[f"{site.url}/one"]["text"]
    assert again.rows[f"{site.url}/two"] == first.rows[f"{site.url}/two"]
    store = open_store(environment.store)
    for key in list(store.list("crawls/web/bodies/")):
        store.delete(key)  # as an erasure does
    assert read(source(f"{site.url}/")).rows.keys() == first.rows.keys()


def test_a_page_of_what_was_erased_is_neither_read_nor_kept_again(site, read, environment, tmp_path):
    site.pages = {"/": page("/kim"), "/kim": page(text="Write to kim.cheolsu@bank.kr.")}
    assert len(read(source(f"{site.url}/")).rows) == 2
    laptop = environment.model_copy(update={"home": str(tmp_path / "home")})
    request = Request(reference="r", identifiers=["kim.cheolsu@bank.kr"])
    erase(open_request(laptop, seal(request, erasure_key(laptop).public_key())))
    for _ in range(2):
        again = read(source(f"{site.url}/"))
        assert again.rows.keys() == {f"{site.url}/"}
        assert again.outcome.dropped == {"erased": 1}
        store = open_store(environment.store)
        assert not any(b"cheolsu" in store.read(key) for key in store.list())


def test_a_crawl_that_was_broken_off_goes_on_where_it_was(site, tmp_path, environment):
    site.pages = {"/": page("/a", "/b"), "/a": page("/c"), "/b": page(), "/c": page()}
    declared, store = source(f"{site.url}/"), open_store(environment.store)
    reader = Site(declared, Ingest(), store).read()
    for _ in range(3):  # robots.txt, the start, /a
        list(next(reader))
    reader.close()
    site.asked.clear()
    urls = [item["url"] for found in Site(declared, Ingest(), store).read() for item in found if isinstance(item, dict)]
    assert urls == [f"{site.url}{path}" for path in ("/", "/a", "/b", "/c")]
    assert site.asked == ["/sitemap.xml", "/b", "/c"]


def test_waits_are_as_long_as_the_site_or_the_declaration_asks(site, environment):
    busy = iter([(503, {"Retry-After": "7"}, b""), page()])
    site.pages = {
        "/robots.txt": (200, {}, b"User-agent: *\nCrawl-delay: 2.5\n"),
        "/": page("/busy", "/gone"),
        "/busy": lambda headers: next(busy),
        "/gone": (503, {"Retry-After": "86400"}, b""),
    }
    waits: list[float] = []
    declared = source(f"{site.url}/", crawl={"seconds_between": 1})
    reader = Site(declared, Ingest(), open_store(environment.store), waits.append)
    found = [item for items in reader.read() for item in items]
    assert waits == [1, 2.5, 2.5, 2.5, 7, 2.5, 2.5]
    assert [item.detail for item in found if hasattr(item, "detail")] == [
        "HTTP 503, and to come back in 86,400 seconds"
    ]


def test_a_redirect_leads_nowhere_that_was_not_declared(site, elsewhere, read):
    elsewhere.pages = {"/": page(text="Inner."), "/robots.txt": (200, {}, b"")}
    site.pages = {
        "/": page("/out", "/local", "/metadata", "/loop", "/far0", elsewhere.url, "http://10.0.0.1/"),
        "/out": moved(elsewhere.url + "/"),
        "/local": moved("http://localhost:1/"),
        "/metadata": moved("http://169.254.169.254/latest/"),
        "/loop": moved("/loop2"),
        "/loop2": moved("/loop"),
        **{f"/far{number}": moved(f"/far{number + 1}") for number in range(7)},
        "/sitemap.xml": moved(elsewhere.url + "/sitemap.xml"),
    }
    found = read(source(f"{site.url}/", kind="prose"))
    assert list(found.rows) == [f"{site.url}/"]
    assert found.outcome.dropped == {"outside": 3, "unreachable": 1}
    assert "more than 5 redirects" in found.report
    assert "/far5" in site.asked
    assert "/far6" not in site.asked
    assert elsewhere.asked == []


def test_robots_txt_and_terms_are_not_fetched_from_private_addresses_by_a_redirect(site, elsewhere, read):
    elsewhere.pages = {"/robots.txt": (200, {}, b""), "/terms": page()}
    site.pages = {"/": page(), "/robots.txt": moved(f"{elsewhere.url}/robots.txt")}
    with pytest.raises(HeadraceError, match=r"its address is private, which only class: in_house may have"):
        read(source(f"{site.url}/"))
    del site.pages["/robots.txt"]
    site.pages["/terms"] = moved(f"{elsewhere.url}/terms")
    found = read(source(f"{site.url}/", terms=f"{site.url}/terms"))
    assert found.outcome.metrics["terms_not_kept"] == 1
    assert "its address is private" in found.report
    assert elsewhere.asked == []


def test_a_name_with_a_private_address_may_only_be_asked_for_an_in_house_source():
    import socket

    name = socket.gethostname()
    try:
        private = not all(is_public(str(entry[4][0])) for entry in socket.getaddrinfo(name, 80))
    except OSError:
        private = False
    if not private:
        pytest.skip("this machine's name has no private address")
    declared = source(f"http://{name}/")
    assert fetch.private_places(declared) == frozenset()
    assert fetch.private_places(source(f"http://{name}/", **{"class": "in_house"})) == {(name.lower(), 80)}
    with Web("Headrace", fetch.private_places(declared)) as web, pytest.raises(Unanswered, match="is private"):
        web.get(f"http://{name.lower()}/", 9)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False),
    ],
)
def test_which_addresses_anybody_may_ask(address, public):
    assert is_public(address) == public


def test_what_is_too_long_or_packed_too_tightly_is_left(site):
    site.pages = {
        "/long": (200, {}, b"x" * 1_001),
        "/bomb": (200, {"Content-Encoding": "gzip"}, gzip.compress(b"\0" * 50 * 2**20)),
        "/cut": (200, {"Content-Encoding": "gzip"}, gzip.compress(b"whole")[:-4]),
        "/fine": (200, {"Content-Encoding": "gzip"}, gzip.compress(b"one") + gzip.compress(b"two")),
        "/zstd": (200, {"Content-Encoding": "zstd"}, b"x"),
    }
    with Web("Headrace", fetch.private_places(source(site.url))) as web:
        with pytest.raises(TooLong, match="longer than 1,000 bytes"):
            web.get(f"{site.url}/long", 1_000)
        assert web.get(f"{site.url}/long", 1_000, cut=True).body == b"x" * 1_000
        with pytest.raises(TooLong, match="longer than 100,000 bytes"):
            web.get(f"{site.url}/bomb", 100_000)
        assert web.get(f"{site.url}/fine", 100).body == b"onetwo"
        with pytest.raises(Unanswered, match="gzip that breaks off"):
            web.get(f"{site.url}/cut", 100)
        with pytest.raises(Unanswered, match="a Content-Encoding that was not asked for"):
            web.get(f"{site.url}/zstd", 100)


def test_an_answer_that_drips_ends_at_its_deadline(monkeypatch):
    import socket

    monkeypatch.setattr(fetch, "WHOLE_SECONDS", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def drip() -> None:
        connection, _ = listener.accept()
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not stop.wait(0.02):
            try:
                connection.sendall(b"X: y\r\n")
            except OSError:
                return

    threading.Thread(target=drip, daemon=True).start()
    port = listener.getsockname()[1]
    with (
        Web("Headrace", frozenset({("127.0.0.1", port)})) as web,
        pytest.raises(Unanswered, match=r"not all of it in 0.5"),
    ):
        web.get(f"http://127.0.0.1:{port}/", 9)
    stop.set()
    listener.close()


def test_sitemaps_lead_to_sitemaps_packed_or_not_and_bombs_to_nothing(site, read):
    maps = "".join(f"<sitemap><loc>{loc}</loc></sitemap>" for loc in (f"{site.url}/s.xml.gz", "/s.txt"))
    nested = f"<sitemapindex>{maps}</sitemapindex>"
    packed = gzip.compress(
        f"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url><loc>{site.url}/a?x=1&amp;y=2</loc></url>"
        "<url><loc>https://other.example/</loc></url></urlset>".encode()
    )
    site.pages = {
        "/robots.txt": (200, {}, b"Sitemap: /map.xml\nSitemap: http://other.example/map.xml\nSitemap: /map.xml\n"),
        "/map.xml": (200, {}, nested.encode()),
        "/s.xml.gz": (200, {}, packed),
        "/s.txt": (200, {}, f"{site.url}/b\n".encode()),
        "/": page(),
        "/a?x=1&y=2": page(),
        "/b": page(),
    }
    found = read(source(f"{site.url}/", crawl={"seconds_between": 0, "follow_links": False}))
    assert [url.removeprefix(site.url) for url in found.rows] == ["/", "/a?x=1&y=2", "/b"]
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><urlset><url><loc>http://x/&b;</loc></url></urlset>'
    assert read_sitemap(laughs.encode()) == ([], ["http://x/"])
    assert read_sitemap(gzip.compress(b"<urlset>" + b" " * (51 * 2**20))) == ([], [])
    assert read_sitemap(b"\x1f\x8b nothing") == read_sitemap(b"") == read_sitemap(b"\0\xff") == ([], [])


def test_more_pages_than_are_taken_are_said_to_be_there(site, read):
    site.pages = {f"/{number}": page(f"/{number + 1}") for number in range(50)}
    found = read(source(f"{site.url}/0", crawl={"seconds_between": 0, "max_pages": 5}, **{"class": "public"}))
    assert len(found.rows) == 1  # what is not below /0 was not declared
    site.pages["/"] = moved("/0")
    found = read(source(f"{site.url}/", id="all", crawl={"seconds_between": 0, "max_pages": 5}))
    assert found.outcome.dropped == {"beyond": 1}
    assert len(found.rows) == 4


def test_pages_are_read_by_what_their_server_calls_them(site, read):
    buffer = io.BytesIO()
    canvas = Canvas(buffer, invariant=1)
    canvas.drawString(72, 720, "A page of paper")
    canvas.save()
    links = ("/paper", "/guide.md", "/tool.py", "/rows.jsonl", "/a?print", "/euckr", "/picture")
    site.pages = {
        "/": page(*links),
        "/paper": (200, {"Content-Type": "application/pdf"}, buffer.getvalue()),
        "/guide.md": (200, {"Content-Type": "text/plain"}, "# 안내\n".encode()),
        "/tool.py": (200, {}, b"x = 1\n"),
        "/rows.jsonl": (200, {}, b'{"text": "mine", "license": "CC0-1.0"}\n'),
        "/a?print": page(head='<link rel="canonical" href="/a">', text="Same."),
        "/euckr": (200, {"Content-Type": "text/html"}, "<meta charset=euc-kr><p>한글 문서".encode("cp949")),
        "/picture": (200, {"Content-Type": "image/png"}, b"PNG"),
    }
    found = read(source(f"{site.url}/"))
    formats = {url.removeprefix(site.url): row["metadata"]["format"] for url, row in found.rows.items()}
    assert formats == {
        "/": "html",
        "/paper": "pdf",
        "/guide.md": "markdown",
        "/tool.py": "code",
        "/a": "html",
        "/euckr": "html",
    }
    assert found.rows[f"{site.url}/a"]["metadata"]["fetched_from"] == f"{site.url}/a?print"
    assert "한글 문서" in found.rows[f"{site.url}/euckr"]["text"]
    assert found.outcome.dropped == {"unsupported": 2}


def test_terms_are_kept_as_they_were_and_a_change_is_said_once(site, read, environment, tmp_path):
    site.pages = {"/": page(), "/terms": page(text="You may.", head='<script>visit="1"</script>')}
    web = source(f"{site.url}/", terms=f"{site.url}/terms")
    (tmp_path / "terms.txt").write_text("Ours.")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# One")
    own = source(str(tmp_path / "docs"), id="own", terms=str(tmp_path / "terms.txt"))
    first = read(web, own)
    store = open_store(environment.store)
    items = json.loads((first.folder / "evidence.json").read_text())
    kept = {item["source"]: item for item in items if item["what"] == "terms"}
    assert b"You may." in store.read(f"evidence/{kept['web']['sha256']}")
    assert store.read(f"evidence/{kept['own']['sha256']}") == b"Ours."
    listed = (first.folder / "evidence.json").read_bytes()
    assert store.read(f"evidence/{sha256(listed)}") == listed  # the hash that the ledger has leads to the list
    assert {row["metadata"]["terms_sha256"] for row in first.rows.values()} == {
        kept["web"]["sha256"],
        kept["own"]["sha256"],
    }
    site.pages["/terms"] = page(text="You may.", head='<script>visit="2"</script>')
    same = read(web, own)
    assert same.outcome.metrics["terms_changed"] == 0
    assert same.rows == first.rows
    site.pages["/terms"] = page(text="You may not.")
    other = read(web, own)
    assert other.outcome.metrics["terms_changed"] == 1
    assert "web: its terms changed since the last run" in other.report
    row = other.rows[f"{site.url}/"]["metadata"]
    assert row["terms_sha256"] != kept["web"]["sha256"]
    assert row["terms_changed"] == f"{datetime.now(UTC):%Y-%m-%d}"
    site.pages["/terms"] = (500, {}, b"")
    down = read(web, own)
    assert down.rows == other.rows
    assert "HTTP 500" in down.report


@pytest.mark.parametrize(
    ("url", "cleaned"),
    [
        ("HTTP://Example.COM:80/a/../b/%7Ejoe/%e3?x=%2f#f", "http://example.com/b/~joe/%E3?x=%2F"),
        ("https://한국.example/문서 1", "https://xn--3e0b707e.example/%EB%AC%B8%EC%84%9C%201"),
        ("https://example.com.", "https://example.com/"),
        ("http://[::1]:8000/", "http://[::1]:8000/"),
        ("https://x/a/%2e%2e/%2E./b", "https://x/b"),
        ("https://x/?", "https://x/"),
        ("https://x/??", "https://x/??"),
        ("https://user:word@x/", ""),
        ("mailto:a@b", ""),
        ("//x/y", ""),
        ("http://x:99999/", ""),
        ("http://ex ample/", ""),
        ("http://[bad/", ""),
        ("https://x/" + "a" * 3_000, ""),
    ],
)
def test_an_address_is_written_in_one_way(url, cleaned):
    assert clean(url) == cleaned
    assert clean(cleaned) == cleaned


@given(st.text(max_size=60) | st.text("/.%2eE?#:@[]ab\\", max_size=40).map(lambda text: f"http://h.example/a/{text}"))
def test_a_clean_address_stays_as_it_is_and_has_no_way_out(url):
    cleaned = clean(url)
    assert clean(cleaned) == cleaned
    assert not re.search(r"/\.\.?(/|$)", cleaned.partition("?")[0])


@given(st.binary(max_size=200) | st.text("<a href='/x\">", max_size=60).map(str.encode))
def test_any_bytes_are_some_page(data):
    read_page(data, "http://h.example/", "Headrace")
    read_sitemap(data)
    in_utf8(data, "text/html; charset=\xff")
