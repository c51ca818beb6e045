"""Cookies and proxies: named by file, read where they are used, never shown.

A secret on a command line is in every process list, and one in a task is on the Dask dashboard; a
path is neither. Errors name the file and never repeat what it holds.
"""

from __future__ import annotations

import re
from http.cookiejar import LoadError, MozillaCookieJar
from pathlib import Path

from pipeline.errors import UsageError


def cookie_jar(path: Path) -> MozillaCookieJar:
    """Return the cookies of a file.

    Raises
    ------
    UsageError
        When it cannot be read or is not in Netscape format.
    """
    jar = MozillaCookieJar(path)
    try:
        jar.load(ignore_discard=True, ignore_expires=True)
    except (OSError, LoadError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cookie file {path} cannot be read ({type(error).__name__}); expected Netscape format"
        ) from None
    for cookie in jar:
        if cookie.expires == 0:  # how browsers' exports write "until the browser is closed"
            cookie.expires = None
    return jar


def proxy_address(path: Path) -> str:
    """Return the proxy's address, the first line of a file.

    Raises
    ------
    UsageError
        When the file cannot be read or holds something else.
    """
    try:
        text = path.read_text().strip().partition("\n")[0]
    except OSError as error:
        raise UsageError(f"proxy file {path} cannot be read: {error.strerror}") from error
    if not re.match(r"https?://[^\s/]+/?$", text):
        raise UsageError(f"proxy file {path} does not hold an address like http://host:3128")
    return text
