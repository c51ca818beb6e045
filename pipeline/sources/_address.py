"""Which addresses may be asked: public ones, checked by number, not by name.

A manifest or a redirect can name any address, among them the machine's own services, its private
network, and the metadata service of a cloud (which hands out credentials). So a URL is resolved
here, every address it resolves to is judged, and the connection is made to the judged number:
looking the name up again while connecting would let a name server answer differently the second
time (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from pipeline.errors import Blocked, NetworkError

PORTS = {"http": 80, "https": 443}

METADATA = frozenset({ipaddress.ip_address("168.63.129.16")})
"""Metadata services with public numbers (Azure); the others are link-local, private or shared."""

EMBEDDING = (
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
)
"""IPv6 networks whose addresses carry an IPv4 address (the old IPv4-compatible ones, NAT64, 6to4),
and its distance in bits from the right end."""

LOCAL = (ipaddress.IPv6Network("fec0::/10"), ipaddress.IPv6Network("64:ff9b:1::/48"))
"""Networks of one site that older Pythons count among the public ones (RFC 3879, RFC 8215)."""

NAME_PART = re.compile(r"[\w.()+,=@~ -]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that may be asked, and the addresses to ask it at."""

    url: str
    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[str, ...]


def checked(url: str, *, allow_private: bool, resolve: bool = True) -> Target:
    """Judge a URL.

    Parameters
    ----------
    url : str
        From a template, a manifest or a redirect.
    allow_private : bool
        Accept addresses that are not public.
    resolve : bool
        False where a proxy resolves names: then only written addresses are judged.

    Raises
    ------
    Blocked
        When the scheme is not http or https, the URL is malformed, or an address is not public.
    NetworkError
        When the name cannot be resolved.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise Blocked(f"{redacted(url)} is no URL: {error}") from error
    if parts.scheme not in PORTS or not parts.hostname:
        raise Blocked(f"{redacted(url)} is not http or https; only these are asked")
    if parts.username is not None or parts.password is not None:
        raise Blocked(f"{redacted(url)} holds a password; keep it out of URLs (a cookie file)")
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    path += f"?{quote(parts.query, safe='/%:@!$&()*+,;=~-._?')}" if parts.query else ""
    try:
        host = parts.hostname.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise Blocked(f"{redacted(url)} names no server that can be: {error}") from error
    addresses = _addresses(host, port, resolve=resolve)
    for address in addresses:
        if not allow_private and not is_public(address):
            raise Blocked(
                f"{redacted(url)} leads to {address}, which is not a public address; "
                "--allow-private permits it"
            )
    return Target(url, parts.scheme, host, port, path, addresses)


def _addresses(host: str, port: int, *, resolve: bool) -> tuple[str, ...]:
    """Return the numbers that a host name or a written number stands for."""
    flags = 0 if resolve else socket.AI_NUMERICHOST
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError) as error:
        if not resolve:
            return ()
        raise NetworkError(f"the name {host} cannot be resolved: {error}") from error
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet.

    Examples
    --------
    >>> [is_public(text) for text in ("8.8.8.8", "127.0.0.1", "10.1.2.3", "169.254.169.254")]
    [True, False, False, False]
    >>> [is_public(text) for text in ("::1", "::ffff:192.168.0.1", "64:ff9b::7f00:1", "ff02::1")]
    [False, False, False, False]
    """
    try:
        number = ipaddress.ip_address(address)
    except ValueError:  # with a zone, such as fe80::1%eth0: never public
        return False
    if isinstance(number, ipaddress.IPv6Address):
        if number.ipv4_mapped is not None:
            return is_public(str(number.ipv4_mapped))
        if any(number in network for network in LOCAL):
            return False
        for network, shift in EMBEDDING:
            if number in network:
                return is_public(str(ipaddress.IPv4Address(int(number) >> shift & 0xFFFFFFFF)))
    return number.is_global and not number.is_multicast and number not in METADATA


def redacted(url: str) -> str:
    """Return a URL as it may be shown: without password, query and fragment (signatures, tokens).

    Examples
    --------
    >>> redacted("https://me:secret@host:8000/a.mp4?X-Amz-Signature=1#t")
    'https://host:8000/a.mp4'
    """
    bare = re.split(r"[?#]", url, maxsplit=1)[0]
    return re.sub(r"(?<=//)[^/]*@", "", bare)


def safe_name(video: str) -> str:
    """Return a video id that may become part of a path or URL, or refuse it.

    An id is one or more parts joined by ``/``; each is letters, digits and a few marks, and none
    is ``.`` or ``..``. A leading ``-`` is fine: paths handed on are absolute.

    Raises
    ------
    Blocked
        When the id is anything else.
    """
    for part in video.split("/"):
        if not NAME_PART.fullmatch(part) or part != part.strip() or set(part) == {"."}:
            raise Blocked(
                f"video id {video!r} holds {part!r}, which is no safe name "
                "(letters, digits, and any of _.()+,=@~- inside)"
            )
    return video
