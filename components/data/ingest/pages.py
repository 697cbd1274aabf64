"""What a web page or a sitemap says to a crawler: links, its own address, what may be done with it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin

from lxml import etree

from components.data.ingest.fetch import Unanswered, clean, unpack
from components.data.ingest.robots import directives

SITEMAP_BYTES = 50 * 2**20
"""How long a sitemap may be, as sitemaps.org has it."""
_CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
_BROWSERS = {
    "ascii": "cp1252",
    "euc-kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "iso-8859-1": "cp1252",
    "ks_c_5601-1987": "cp949",
    "ksc5601": "cp949",
    "latin1": "cp1252",
    "shift_jis": "cp932",
    "us-ascii": "cp1252",
}
"""Encodings that browsers, and so the authors of pages, take for larger ones."""


@dataclass(frozen=True)
class Page:
    """What a page says.

    Attributes:
        links: Addresses to follow, in the order of the page; none if it asks not to.
        canonical: The address it calls its own, '' if none.
        refusal: What in it forbids its use, '' if nothing does.
    """

    links: tuple[str, ...] = ()
    canonical: str = ""
    refusal: str = ""


def read_page(html: bytes, url: str, product: str) -> Page:
    """Read a page.

    Args:
        html: The page in UTF-8.
        url: Its address.
        product: Name of the crawler, which a page may speak to.
    """
    root = _root(html)
    if root is None:
        return Page()
    base, canonical = url, ""
    links: list[str] = []
    asked: list[str] = []
    reserved = False
    for element in root.iter("base", "link", "meta", "a", "area"):
        said = {str(name): str(value) for name, value in element.attrib.items()}
        address = said.get("href", "")
        relations = said.get("rel", "").lower().split()
        if element.tag == "meta":
            name = said.get("name", "").strip().lower()
            asked += [said.get("content", "")] * (name in ("robots", product.lower()))
            reserved |= name == "tdm-reservation" and said.get("content", "").strip() == "1"
        elif element.tag == "base":
            base = _joined(url, address) or base
        elif element.tag == "link":
            canonical = canonical or ("canonical" in relations and _joined(base, address)) or ""
        elif address and "nofollow" not in relations:
            links.append(_joined(base, address))
    wants = directives(asked, product)
    refusal = "the page's tdm-reservation is 1" if reserved else refused_by(wants, "the page's robots element")
    return Page(() if "nofollow" in wants else tuple(filter(None, dict.fromkeys(links))), canonical, refusal)


def refused_by(wants: frozenset[str], what: str) -> str:
    """Say which directive forbids to take a page, '' if none does."""
    return next((f"{what} says {word}" for word in ("noai", "noindex") if word in wants), "")


def in_utf8(body: bytes, content_type: str) -> bytes:
    """Give a text as UTF-8 where its header, or an HTML page itself, names another encoding."""
    named = _CHARSET.search(content_type.encode()) or ("html" in content_type and _CHARSET.search(body[:1024]))
    if not named or body.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return body
    charset = named[1].decode("ascii", "replace").lower()
    try:
        return body.decode(_BROWSERS.get(charset, charset)).encode()
    except (LookupError, UnicodeError):
        return body


def words(data: bytes) -> bytes:
    """Give what a text says without what changes with every visit: of a page no markup, no scripts, no spacing."""
    root = _root(data) if b"<html" in data[:4096].lower() or b"<!doctype html" in data[:4096].lower() else None
    if root is None:
        return b" ".join(data.split())
    return b" ".join("\n".join(_said(root)).encode("utf-8", "replace").split())


def read_sitemap(data: bytes) -> tuple[list[str], list[str]]:
    """Give the further sitemaps and the pages that a sitemap lists; nothing for what is none.

    It may be packed, up to `SITEMAP_BYTES`, or be a plain list; entities are not expanded.
    """
    try:
        data = unpack(data, SITEMAP_BYTES) if data[:2] == b"\x1f\x8b" else data
    except Unanswered:
        return [], []
    if data.lstrip()[:4].lower() == b"http":
        return [], data.decode("utf-8", "replace").split()
    try:
        root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True, recover=True))
    except (etree.XMLSyntaxError, ValueError):
        return [], []
    if root is None:
        return [], []
    found = [(loc.text or "").strip() for loc in root.iter("{*}loc")]
    return (found, []) if etree.QName(root).localname == "sitemapindex" else ([], found)


def _root(html: bytes) -> etree._Element | None:
    try:
        return etree.fromstring(html, etree.HTMLParser(encoding="utf-8", no_network=True))
    except (etree.XMLSyntaxError, ValueError):
        return None


def _said(root: etree._Element) -> Iterator[str]:
    for element in root.iter():
        if isinstance(element.tag, str) and element.tag not in ("script", "style", "noscript") and element.text:
            yield element.text
        if element.tail:
            yield element.tail


def _joined(base: str, address: str) -> str:
    try:
        return clean(urljoin(base, address.strip()))
    except ValueError:
        return ""
