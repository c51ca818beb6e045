import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests._segment import Segment
from pipeline.errors import Blocked, NetworkError, UsageError, VideoMissing
from pipeline.sources import _address
from pipeline.sources._address import checked, is_public, redacted, safe_name
from pipeline.sources._remote import check_template, filled


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "0.0.0.0",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fd00:ec2::254",
        "ff0e::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "192.0.2.1",
        "::127.0.0.1",
        "fec0::1",
        "64:ff9b:1::7f00:1",
        "nonsense",
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"],
)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://8.8.8.8/x",
        "gopher://8.8.8.8/",
        "javascript:alert(1)",
        "//8.8.8.8/x",
        "http://",
        "http://8.8.8.8:99999/",
        "http://me:pass@8.8.8.8/",
        "http://[::1/",
        "",
    ],
)
def test_urls_that_are_never_asked(url: str) -> None:
    with pytest.raises(Blocked) as raised:
        checked(url, allow_private=True)
    assert "pass@" not in str(raised.value)


@pytest.mark.parametrize(
    "written",
    ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "[::1]", "0"],
)
def test_the_own_machine_is_recognised_however_it_is_written(written: str) -> None:
    with pytest.raises(Blocked, match="not a public address"):
        checked(f"http://{written}:8000/latest/meta-data", allow_private=False)


def test_one_private_answer_among_public_ones_is_enough_to_refuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answers(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port))
            for number in ("8.8.8.8", "10.0.0.1")
        ]

    monkeypatch.setattr(_address.socket, "getaddrinfo", answers)
    with pytest.raises(Blocked, match=r"10\.0\.0\.1"):
        checked("https://rebinding.example/x", allow_private=False)
    assert checked("https://x.example/", allow_private=True).addresses == ("8.8.8.8", "10.0.0.1")


def test_a_name_that_does_not_resolve_may_pass() -> None:
    with pytest.raises(NetworkError, match="cannot be resolved"):
        checked("https://videos.invalid/x.mp4", allow_private=False)
    target = checked("https://videos.invalid/x.mp4", allow_private=False, resolve=False)
    assert target.addresses == ()


def test_a_proxy_is_not_asked_for_private_numbers() -> None:
    with pytest.raises(Blocked):
        checked("http://169.254.169.254/latest", allow_private=False, resolve=False)


def test_text_of_a_url_cannot_end_the_request_line() -> None:
    target = checked("http://8.8.8.8/a b\u00e9?q=x y", allow_private=False)
    assert target.path == "/a%20b%C3%A9?q=x%20y"


@given(st.text(min_size=1))
def test_a_safe_name_has_no_way_up_or_out(name: str) -> None:
    try:
        safe_name(name)
    except Blocked:
        return
    assert name.isprintable()
    assert not name.startswith("/")
    assert not {"", ".", ".."} & set(name.split("/"))
    assert not set(name) & set('\\:*?"<>|&;$`\n\0%#')


@pytest.mark.parametrize("name", ["-abc_DEF-123", "--a", "yoga/x.avi", "v (1).mp4", "a,b+c=d@e~f"])
def test_ids_that_are_safe_names(name: str) -> None:
    assert safe_name(name) == name


@pytest.mark.parametrize(
    "name", ["../x", "a/../b", "/abs", "a//b", ".", "...", " a", "a\\b", "é", ""]
)
def test_ids_that_are_not(name: str) -> None:
    with pytest.raises(Blocked):
        safe_name(name)


def test_what_is_shown_of_a_url() -> None:
    assert redacted("https://u:p@h/a?sig=1") == "https://h/a"
    assert redacted("https://h/a#token") == "https://h/a"


def test_templates_are_checked_when_they_are_given() -> None:
    assert check_template("https://h/{id}_{start:06d}.mp4")
    assert not check_template("https://h/{id}.mp4")
    for wrong in ("https://h/x.mp4", "https://h/{label}.mp4", "https://h/{id", "https://h/{0}"):
        with pytest.raises(UsageError, match="--videos"):
            check_template(wrong)
    with pytest.raises(UsageError, match="fields"):
        check_template("https://h/{id.__class__}")


def test_a_template_is_filled_with_safe_names_only() -> None:
    segment = Segment(video="-a", start_ms=10_000, end_ms=20_500, split="val")
    assert filled("http://h/{split}/{id}_{start:06d}", segment) == "http://h/val/-a_000010"
    with pytest.raises(VideoMissing, match="no end in whole seconds"):
        filled("http://h/{id}_{end}", segment)
    with pytest.raises(Blocked):
        filled("http://h/{id}", Segment(video="../../admin"))
