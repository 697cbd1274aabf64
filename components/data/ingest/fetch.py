"""Asks web servers for bytes: bounded in size and time, and not at private addresses that nobody declared.

A declared site may send a crawler anywhere, by a redirect or by what its name resolves to. So each connection is made
to an address that was looked at first, and a body is read, and unpacked, no further than it may be long.
"""

import ipaddress
import socket
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx

from components.data.ingest.robots import plain_escapes
from components.data.sources import Source

CONNECT_SECONDS = 10.0
"""Longest wait for a connection, to whichever of a host's addresses."""
ADDRESSES = 4
"""Most addresses of a host that are tried."""
SECONDS = 30.0
"""Longest wait for the next byte of an answer."""
WHOLE_SECONDS = 120.0
"""Longest time for a whole answer, however steadily its bytes drip."""
REDIRECTS = 5
"""Most redirects in a row that are followed, as RFC 9309 has it for robots.txt (2.3.1.2)."""
_LONGEST_ADDRESS = 2_000
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Unanswered(Exception):
    """A server did not give what it was asked for; the message says why in a few words."""


class TooLong(Unanswered):
    """What a server gives is longer than is taken."""


@dataclass(frozen=True)
class Answer:
    """What a server answered; the names of headers are in lower case, several of a name are lines of one value."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether it is what was asked for."""
        return 200 <= self.status < 300

    @property
    def target(self) -> str:
        """Where a redirect leads; '' for any other answer."""
        location = self.headers.get("location", "")
        return clean(urljoin(self.url, location)) if self.status in (301, 302, 303, 307, 308) and location else ""


class Web:
    """The one place from which servers are asked.

    Args:
        user_agent: What it calls itself.
        private: Hosts and ports that may be at private addresses.
    """

    def __init__(self, user_agent: str, private: frozenset[tuple[str, int]] = frozenset()) -> None:
        self._agent = user_agent
        self._backend = _Backend(private)
        self._pool = httpcore.ConnectionPool(network_backend=self._backend)

    def __enter__(self) -> Self:
        """Begin; nothing is connected yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close what is connected."""
        self._pool.close()

    def get(self, url: str, most: int, headers: Mapping[str, str] | None = None, *, cut: bool = False) -> Answer:
        """Ask for one address; redirects are answers.

        Args:
            url: An address as `clean` writes it.
            most: Longest body in bytes, unpacked.
            headers: What to ask for beside it.
            cut: Whether to give the beginning of a longer body.

        Raises:
            TooLong: The body is longer.
            Unanswered: There is no answer, or none that was asked for.
        """
        own = {"User-Agent": self._agent, "Accept": "*/*", "Accept-Encoding": "gzip"}
        sent: list[tuple[bytes | str, bytes | str]] = [*own.items(), *(headers or {}).items()]
        waits = {"connect": CONNECT_SECONDS, "read": SECONDS, "write": SECONDS, "pool": SECONDS}
        self._backend.deadline = time.monotonic() + WHOLE_SECONDS
        try:
            with self._pool.stream("GET", url, headers=sent, extensions={"timeout": waits}) as response:
                given = _headers(response.headers)
                packed = given.get("content-encoding", "identity").lower()
                if packed not in ("identity", "gzip", "x-gzip"):
                    raise Unanswered("a Content-Encoding that was not asked for")
                body = _read(response.iter_stream(), most, packed != "identity", cut)
                return Answer(url, response.status, given, body)
        except httpcore.TimeoutException as error:
            raise Unanswered(f"no answer within {SECONDS:g} seconds, or not all of it in {WHOLE_SECONDS:g}") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.UnsupportedProtocol) as error:
            raise Unanswered(f"no answer ({str(error).partition(chr(10))[0][:80] or type(error).__name__})") from error

    def follow(self, url: str, most: int, *, cut: bool = False) -> Answer:
        """Ask for one address and go where redirects lead, `REDIRECTS` times at most; then the last one is the answer.

        Raises:
            Unanswered: See `get`.
        """
        answer = self.get(url, most, cut=cut)
        for _ in range(REDIRECTS):
            if not answer.target:
                break
            answer = self.get(answer.target, most, cut=cut)
        return answer


def private_places(source: Source) -> frozenset[tuple[str, int]]:
    """Tell which hosts and ports of a source may be at private addresses.

    A location or page of terms may that names such an address itself, and one of a source that is `in_house`.
    """
    places = [split_origin(url) for url in map(clean, (source.location, source.terms)) if url]
    return frozenset(
        (host, port) for _, host, port in places if source.class_ == "in_house" or host == "localhost" or _literal(host)
    )


def clean(url: str) -> str:
    """Write an address in one way; '' for what is none that a crawler may ask for.

    Scheme and host in lower case, the host in ASCII, no default port, no dot segments, no fragment, escapes as
    `plain_escapes` has them. An address with a user's name, or longer than 2,000 characters, is none.
    """
    try:
        parts = urlsplit(url.strip())
        path, query = plain_escapes(parts.path) or "/", plain_escapes(parts.query)
        whole = httpx.URL(parts._replace(path=path, query=query, fragment="").geturl())
        port = whole.port  # httpx leaves a default port out
    except (httpx.InvalidURL, ValueError):
        return ""
    host = whole.raw_host.decode("ascii").rstrip(".")
    if whole.scheme not in ("http", "https") or not host or "%" in host or whole.userinfo or (port or 0) > 65_535:
        return ""
    host = f"[{host}]" if ":" in host else host
    path, _, query = whole.raw_path.decode("ascii").partition("?")
    address = f"{whole.scheme}://{host}{f':{port}' if port else ''}{path}{f'?{query}' if query else ''}"
    return address if len(address) <= _LONGEST_ADDRESS else ""


def split_origin(url: str) -> tuple[str, str, int]:
    """Give scheme, host and port of an address that `clean` has written."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def path_of(url: str) -> str:
    """Give path and query of an address that `clean` has written."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


def unpack(data: bytes, most: int, *, cut: bool = False) -> bytes:
    """Unpack gzip, no further than it may be long.

    Raises:
        TooLong: It unpacks to more, unless it may be cut.
        Unanswered: It is no gzip.
    """
    out = b""
    try:
        while data and len(out) <= most:
            member = zlib.decompressobj(wbits=31)
            out += member.decompress(data, most + 1 - len(out))
            if not (member.eof or cut or len(out) > most):
                raise Unanswered("gzip that breaks off")
            data = member.unused_data
    except zlib.error as error:
        raise Unanswered("gzip that is none") from error
    return _bounded(out, most, cut)


def is_public(address: str) -> bool:
    """Tell whether an IP address is one that anybody may ask, also if it is wrapped in another."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        wrapped = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if found in _NAT64:
            wrapped = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if wrapped is not None:
            return is_public(str(wrapped))
    return found.is_global and not found.is_multicast


class _Backend(httpcore.NetworkBackend):
    """Makes connections for httpcore, each to an address that was looked at."""

    def __init__(self, private: frozenset[tuple[str, int]]) -> None:
        self.deadline = 0.0
        self._private = private
        self._system = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} has no address") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        if (host, port) not in self._private and not all(map(is_public, addresses)):
            raise httpcore.ConnectError("its address is private, which only class: in_house may have")
        addresses = addresses[:ADDRESSES]
        for address in addresses:
            try:
                share = (timeout or CONNECT_SECONDS) / len(addresses)
                return _Stream(self._system.connect_tcp(address, port, share, local_address, socket_options), self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if address == addresses[-1]:
                    raise
        raise httpcore.ConnectError(f"{host} has no address")


class _Stream(httpcore.NetworkStream):
    """A connection that gives up at its maker's deadline, also on a server that sends a byte now and then."""

    def __init__(self, inner: httpcore.NetworkStream, backend: _Backend) -> None:
        self._inner = inner
        self._backend = backend

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._backend.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout
        return self._inner.read(max_bytes, min(left, timeout or left))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, timeout)

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, timeout), self._backend)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in raw:
        key = name.decode("latin-1").lower()
        try:
            said = value.decode().strip()
        except UnicodeDecodeError:
            said = value.decode("latin-1").strip()
        given[key] = f"{given[key]}\n{said}" if key in given else said
    return given


def _read(chunks: Iterable[bytes], most: int, packed: bool, cut: bool) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > most:
            break
    whole = _bounded(bytes(data), most, cut)
    return unpack(whole, most, cut=cut) if packed else whole


def _bounded(data: bytes, most: int, cut: bool) -> bytes:
    if len(data) > most and not cut:
        raise TooLong(f"longer than {most:,} bytes")
    return data[:most]


def _literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
