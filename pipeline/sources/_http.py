"""One careful GET: checked address, checked redirects, checked reply.

urllib3 speaks HTTP and TLS; what is written here is what it leaves to its user. Each address is
judged before it is asked (`_address`), the connection goes to the judged number while TLS still
verifies the name, redirects are followed by hand so that each is judged too, every request waits
for its turn with its server (`_pace`), and every way to fail has its class.
"""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3 import exceptions
from urllib3.connectionpool import HTTPConnectionPool

from pipeline.errors import (
    Blocked,
    CutShort,
    Forbidden,
    Gone,
    NetworkError,
    NotVideo,
    RateLimited,
    Removed,
    SegmentFailure,
    Timeout,
    TooLarge,
    Unexplained,
)
from pipeline.sources._address import Target, checked, redacted
from pipeline.sources._connections import connections
from pipeline.sources._credentials import cookie_jar, proxy_address
from pipeline.sources._pace import Manners, Pace
from pipeline.sources._source import SourceOptions

USER_AGENT = "action-features (https://pypi.org/project/action-features)"
CHUNK_BYTES = 1 << 17
KEPT_POOLS = 64
NUMBER = re.compile(r"[0-9]{1,18}")
RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")
REDIRECTS = frozenset({301, 302, 303, 307, 308})
REFUSALS: dict[int, type[SegmentFailure]] = {
    401: Forbidden, 402: Forbidden, 403: Forbidden, 404: Gone, 410: Gone, 451: Removed,
    408: Timeout, 425: NetworkError,
}  # fmt: skip
TEXT_TYPES = ("text/html", "application/xhtml", "application/json", "application/xml", "text/xml")
TEXT_STARTS = (b"<!doctype", b"<html", b"<?xml", b"<head", b"{")


@dataclass(slots=True)
class Reply:
    """A reply whose body can be read once.

    Attributes
    ----------
    url : str
        Where it came from in the end.
    offset : int
        Where in the file the body begins: what was asked for, or 0 when the server starts anew.
    total : int or None
        Size of the whole file in bytes, None when the server does not say.
    validator : str
        Strong ETag or date that names this version of the file; empty when there is none.
    """

    url: str
    offset: int
    total: int | None
    validator: str
    _response: urllib3.BaseHTTPResponse
    _until: float
    _max_bytes: int

    def chunks(self) -> Iterator[bytes]:
        """Yield the body as it comes.

        Raises
        ------
        CutShort, NetworkError, Timeout, TooLarge, NotVideo
            When it does not come whole, in time, in size, or is a web page.
        """
        position = self.offset
        with _named(self.url):
            while chunk := self._response.read1(CHUNK_BYTES):
                if position == 0 and chunk[:64].lstrip().lower().startswith(TEXT_STARTS):
                    raise NotVideo(f"{redacted(self.url)} gives a page of text, not a video")
                position += len(chunk)
                if position > self._max_bytes:
                    raise TooLarge(_too_large(self.url, position, self._max_bytes))
                if time.monotonic() > self._until:
                    raise Timeout(f"{redacted(self.url)} was not here by the deadline")
                yield chunk
        if self.total is not None and position < self.total:
            raise CutShort(
                f"{redacted(self.url)} ended after {position} of {self.total} bytes; it is resumed"
            )

    def close(self) -> None:
        """Give the connection up; a body that was not read whole cannot be shared."""
        self._response.close()


class Client:
    """Asks servers, politely, for files.

    Parameters
    ----------
    options : SourceOptions
        Limits, whether private addresses are allowed, cookie and proxy files.
    accounts : Path
        Folder of this machine's accounts with servers.
    manners : Manners
        How each server is treated.

    Raises
    ------
    UsageError
        When the cookie or proxy file cannot be used.
    """

    def __init__(self, options: SourceOptions, accounts: Path, manners: Manners) -> None:
        self.options = options
        self.manners = manners
        self._accounts = accounts
        self._cookies = None if options.cookies is None else cookie_jar(options.cookies)
        self._proxy = None if options.proxy is None else _through(options.proxy)
        self._pools: dict[tuple[str, str, int, str], HTTPConnectionPool] = {}

    def get(self, url: str, *, offset: int = 0, validator: str = "", until: float) -> Reply:
        """Ask for a file, from `offset` on if it is still the version `validator` names.

        Parameters
        ----------
        until : float
            `time.monotonic` by which the body must have come.

        Raises
        ------
        SegmentFailure
            Every class that a server's answer, or its silence, can mean.
        """
        asked = {"Range": f"bytes={offset}-", "If-Range": validator} if offset else {}
        for _ in range(self.options.max_redirects + 1):
            target = checked(
                url, allow_private=self.options.allow_private, resolve=self._proxy is None
            )
            pace = self.pace(target)
            with pace.turn():
                response = self._send(target, asked, until)
            if response.status not in REDIRECTS:
                return self._reply(target, response, offset, until, pace)
            response.close()
            url = _redirected(url, response.headers.get("Location", ""))
        raise NetworkError(
            f"{redacted(url)}: more than {self.options.max_redirects} redirects; the last named it"
        )

    def pace(self, target: Target) -> Pace:
        """Return the account with a target's server."""
        return Pace(self._accounts, f"{target.host}:{target.port}", self.manners)

    def _send(
        self, target: Target, asked: dict[str, str], until: float
    ) -> urllib3.BaseHTTPResponse:
        """Send one request to the first of the target's addresses that answers."""
        seconds = min(self.options.stall_seconds, until - time.monotonic())
        if seconds <= 0:
            raise Timeout(f"{redacted(target.url)} was not asked before the deadline")
        default = target.port == (443 if target.scheme == "https" else 80)
        host = f"[{target.host}]" if ":" in target.host else target.host
        headers = {
            "Host": host if default else f"{host}:{target.port}",
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            **asked,
            **self._cookie_header(target.url),
        }
        addresses = target.addresses or ("",)  # with a proxy, that resolves the name
        for number, address in enumerate(addresses):
            try:
                with _named(target.url):
                    return self._ask(target, address, headers, urllib3.Timeout(seconds))
            except (NetworkError, Timeout):
                if number == len(addresses) - 1:
                    raise
        raise AssertionError("an address list is never empty")

    def _ask(
        self, target: Target, address: str, headers: dict[str, str], timeout: urllib3.Timeout
    ) -> urllib3.BaseHTTPResponse:
        if self._proxy is not None:
            url = f"{target.scheme}://{headers['Host']}{target.path}"
            return self._proxy.urlopen(
                "GET", url, headers=headers, timeout=timeout, redirect=False, retries=False,
                preload_content=False, decode_content=False, enforce_content_length=False,
            )  # fmt: skip
        return self._pool(target, address).urlopen(
            "GET", target.path, headers=headers, timeout=timeout, redirect=False, retries=False,
            preload_content=False, decode_content=False, enforce_content_length=False,
            assert_same_host=False,
        )  # fmt: skip

    def _pool(self, target: Target, address: str) -> HTTPConnectionPool:
        key = (target.scheme, target.host, target.port, address)
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= KEPT_POOLS:
                self._pools.clear()
            pool = self._pools[key] = connections(target, address)
        return pool

    def _cookie_header(self, url: str) -> dict[str, str]:
        if self._cookies is None:
            return {}
        request = urllib.request.Request(url)
        self._cookies.add_cookie_header(request)
        found = request.get_header("Cookie")
        return {"Cookie": found} if found else {}

    def _reply(
        self,
        target: Target,
        response: urllib3.BaseHTTPResponse,
        offset: int,
        until: float,
        pace: Pace,
    ) -> Reply:
        """Judge a reply that is no redirect."""
        try:
            self._judge(target, response, pace)
            begins, total = _extent(response, offset)
            if total is not None and total > self.options.largest_bytes:
                raise TooLarge(_too_large(target.url, total, self.options.largest_bytes))
        except BaseException:
            response.close()
            raise
        pace.served()
        return Reply(
            target.url,
            begins,
            total,
            _validator(response),
            response,
            until,
            self.options.largest_bytes,
        )

    def _judge(self, target: Target, response: urllib3.BaseHTTPResponse, pace: Pace) -> None:
        status, shown = response.status, redacted(target.url)
        if status == 429 or (status == 503 and "Retry-After" in response.headers):
            pause = pace.refused(_retry_after(response.headers.get("Retry-After", "")))
            raise RateLimited(f"{shown} answered {status}; a pause of {pause:.0f} s begins")
        if status >= 500:
            raise NetworkError(f"{shown} answered {status}")
        if status in REFUSALS:
            raise REFUSALS[status](f"{shown} answered {status}")
        if status not in (200, 206, 416):
            raise Unexplained(f"{shown} answered {status}; expected 200")
        kind = response.headers.get("Content-Type", "").lower()
        if status != 416 and kind.startswith(TEXT_TYPES):
            raise NotVideo(f"{shown} gives {kind!r}, not a video")
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise NotVideo(f"{shown} gives a compressed body, though none was asked for")


def _redirected(url: str, location: str) -> str:
    """Return where a redirect leads."""
    try:
        new = urljoin(url, location)
        schemes = urlsplit(url).scheme, urlsplit(new).scheme
    except ValueError as error:
        raise Blocked(f"{redacted(url)} redirects to what is no URL: {error}") from error
    if schemes == ("https", "http"):
        raise Blocked(f"{redacted(url)} redirects from https to http")
    return new


def _extent(response: urllib3.BaseHTTPResponse, asked: int) -> tuple[int, int | None]:
    """Return where the body begins and how long the file is; a misfit begins anew, at -1."""
    length = response.headers.get("Content-Length", "")
    if response.status == 200:
        return 0, int(length) if NUMBER.fullmatch(length) else None
    found = RANGE.match(response.headers.get("Content-Range", ""))
    if response.status == 416 or not found or int(found[1]) != asked:
        return -1, None
    return asked, None if found[2] == "*" else int(found[2])


def _validator(response: urllib3.BaseHTTPResponse) -> str:
    tag = response.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified", "")


def _retry_after(text: str) -> float | None:
    """Return the seconds that a ``Retry-After`` header means, in either of its forms."""
    if re.fullmatch(r"\s*[0-9]+\s*", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError, OSError):
        return None


@contextmanager
def _named(url: str) -> Iterator[None]:
    """Turn urllib3's errors into the pipeline's, with the URL they belong to."""
    try:
        yield
    except exceptions.NewConnectionError as error:  # which urllib3 counts among the time-outs
        raise NetworkError(f"{redacted(url)}: no connection ({error})") from error
    except exceptions.TimeoutError as error:
        raise Timeout(f"{redacted(url)} was silent for too long") from error
    except (exceptions.HTTPError, OSError) as error:
        raise NetworkError(f"{redacted(url)}: {type(error).__name__}") from error


def _too_large(url: str, size: int, limit: int) -> str:
    return (
        f"{redacted(url)} has {size} bytes or more, over the limit of {limit} "
        "(the smaller of --max-bytes and --scratch-bytes)"
    )


def _through(path: Path) -> urllib3.ProxyManager:
    """Return connections through the proxy that a file names; its text is never shown."""
    parts = urllib3.util.parse_url(proxy_address(path))
    headers = urllib3.util.make_headers(proxy_basic_auth=parts.auth) if parts.auth else None
    return urllib3.ProxyManager(parts._replace(auth=None).url, proxy_headers=headers)
