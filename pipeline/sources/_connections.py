"""Connections to judged numbers: TLS verifies the name, and a reply's headers have a deadline.

A time-out of a socket is one for each piece that arrives, so a server that sends a byte of its
headers now and then would hold a worker for ever. An alarm hangs up on it.
"""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from http.client import HTTPException

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from pipeline.sources._address import Target

LINES = 8


class _Punctual(HTTPConnection):
    """A connection whose reply begins within its time-out, not just moves."""

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3 itself does
        """Wait for the status and the headers.

        Raises
        ------
        TimeoutError
            When they are not here in time, which `urllib3` turns into its own.
        """
        late = threading.Event()

        def hang_up() -> None:
            late.set()
            with suppress(OSError, AttributeError):  # closed meanwhile
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

        assert self.timeout is not None, "every request has a time-out"
        alarm = threading.Timer(self.timeout, hang_up)
        alarm.daemon = True
        alarm.start()
        try:
            reply = super().getresponse()
        except (OSError, HTTPException):
            if late.is_set():
                raise TimeoutError("the headers took too long") from None
            raise
        finally:
            alarm.cancel()
        if late.is_set():  # headers that were cut off look like headers that ended
            reply.close()
            raise TimeoutError("the headers took too long")
        return reply


class _PunctualTls(_Punctual, HTTPSConnection):
    """The same with TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Punctual


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _PunctualTls


def connections(target: Target, address: str) -> HTTPConnectionPool:
    """Return connections to one of a target's addresses."""
    if target.scheme == "http":
        return _Pool(address, target.port, maxsize=LINES)
    return _TlsPool(
        address,
        target.port,
        maxsize=LINES,
        ssl_context=ssl.create_default_context(),
        server_hostname=target.host,
        assert_hostname=target.host,
    )
