"""TLS while connecting to a checked number: the certificate is still judged by the name."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests import Segment
from pipeline.errors import Blocked, NetworkError
from pipeline.sources import SourceOptions, _address, open_source
from tests.faults import http_server
from tests.faults.http_server import Server

BODY = bytes(range(256)) * 300

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="the openssl command makes the certificate"
)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=videos.example", "-keyout", str(key)),
            *("-addext", "subjectAltName=DNS:videos.example", "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    def loopback(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        resolved.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    resolved: list[str] = []
    monkeypatch.setattr(_address.socket, "getaddrinfo", loopback)
    running = Server()
    running.socket = context.wrap_socket(running.socket, server_side=True)
    with running:
        running.files["/a.mp4"] = BODY
        yield running
    assert resolved[1:] in ([], ["127.0.0.1"]), "a name is looked up once, when it is judged"


@pytest.fixture
def options(tmp_path: Path) -> SourceOptions:
    return SourceOptions(
        scratch=tmp_path / "scratch",
        accounts=tmp_path / "accounts",
        allow_private=True,
        backoff_seconds=0.01,
        attempts=1,
    )


def test_the_name_is_verified_though_a_number_is_asked(
    server: Server, options: SourceOptions
) -> None:
    source = open_source(f"https://videos.example:{server.server_port}/{{id}}.mp4", options)
    assert source.locate(Segment(video="a")).path.read_bytes() == BODY
    assert server.requests[0][1]["Host"] == f"videos.example:{server.server_port}"


def test_a_certificate_of_another_name_is_refused(server: Server, options: SourceOptions) -> None:
    source = open_source(f"https://other.example:{server.server_port}/{{id}}.mp4", options)
    with pytest.raises(NetworkError, match="SSLError"):
        source.locate(Segment(video="a"))
    assert not server.requests


def test_a_certificate_nobody_vouches_for_is_refused(
    server: Server, options: SourceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    source = open_source(f"https://videos.example:{server.server_port}/{{id}}.mp4", options)
    with pytest.raises(NetworkError, match="SSLError"):
        source.locate(Segment(video="a"))


def test_a_redirect_may_not_give_up_tls(server: Server, options: SourceOptions) -> None:
    server.faults["/a.mp4"] = [http_server.redirect("http://videos.example/a.mp4")]
    source = open_source(f"https://videos.example:{server.server_port}/{{id}}.mp4", options)
    with pytest.raises(Blocked, match="from https to http"):
        source.locate(Segment(video="a"))


def test_no_spelling_of_a_redirect_gives_up_tls(server: Server, options: SourceOptions) -> None:
    server.faults["/a.mp4"] = [http_server.redirect("HTTP://videos.example/a.mp4")]
    source = open_source(f"https://videos.example:{server.server_port}/{{id}}.mp4", options)
    with pytest.raises(Blocked, match="from https to http"):
        source.locate(Segment(video="a"))
