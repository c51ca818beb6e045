from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.sources._credentials import cookie_jar, proxy_address


def test_cookies_of_a_session_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "cookies.txt"
    path.write_text(
        "# Netscape HTTP Cookie File\n"
        ".example.org\tTRUE\t/\tTRUE\t0\tsession\tone\n"
        ".example.org\tTRUE\t/\tTRUE\t4102444800\tlong\ttwo\n"
    )
    assert {cookie.name: cookie.expires for cookie in cookie_jar(path)} == {
        "session": None,
        "long": 4102444800,
    }


@pytest.mark.parametrize("content", [b"session=s3cret", b"\xff\xfe s3cret", b""])
def test_a_wrong_cookie_file_is_named_and_not_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cookies.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="expected Netscape format") as raised:
        cookie_jar(path)
    assert "s3cret" not in repr(raised.value)
    assert raised.value.__cause__ is None


def test_a_proxy_is_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "proxy"
    path.write_text("http://me:s3cret@proxy.example:3128\nmore\n")
    assert proxy_address(path) == "http://me:s3cret@proxy.example:3128"
    for wrong in ("", "s3cret", "socks5://s3cret", "http://a b"):
        path.write_text(wrong)
        with pytest.raises(UsageError, match="does not hold an address") as raised:
            proxy_address(path)
        assert "s3cret" not in str(raised.value)
    with pytest.raises(UsageError, match="cannot be read"):
        proxy_address(tmp_path / "nothing")
