import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import RateLimited
from pipeline.sources import _pace
from pipeline.sources._pace import LONGEST_PAUSE_SECONDS, Manners, Pace


def account(folder: Path, **changes: float) -> Pace:
    quick = {"requests_per_second": 50.0, "lines": 3, "pause_seconds": 1.0}
    return Pace(folder, "host.example:443", Manners(**{**quick, **changes}))  # type: ignore[arg-type]


def test_requests_come_at_the_rate_after_a_burst_whoever_asks(tmp_path: Path) -> None:
    started = time.monotonic()
    for _ in range(12):
        with account(tmp_path).turn():
            pass
    took = time.monotonic() - started
    assert 8 / 50 * 0.9 <= took < 1.0


def test_a_slow_rate_has_no_burst(tmp_path: Path) -> None:
    started = time.monotonic()
    for _ in range(3):
        with account(tmp_path, requests_per_second=5.0).turn():
            pass
    assert time.monotonic() - started < 0.3
    slow = account(tmp_path / "slow", requests_per_second=0.5)
    with slow.turn():
        pass
    assert 1.5 < slow._wait_seconds() <= 2.0


def test_no_more_than_the_lines_at_a_time(tmp_path: Path) -> None:
    now = most = 0
    guard = threading.Lock()

    def ask() -> None:
        nonlocal now, most
        with account(tmp_path, requests_per_second=1000.0, lines=2).turn():
            with guard:
                now += 1
                most = max(most, now)
            time.sleep(0.02)
            with guard:
                now -= 1

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


def test_a_short_pause_is_waited_out(tmp_path: Path) -> None:
    pace = account(tmp_path)
    assert pace.refused(0.3) == pytest.approx(0.3, abs=0.05)
    started = time.monotonic()
    with account(tmp_path).turn():
        assert time.monotonic() - started > 0.25


def test_pauses_double_until_a_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(_pace.time, "time", lambda: clock[0])
    pace = account(tmp_path)
    pauses = []
    for _ in range(14):
        pauses.append(pace.refused(None))
        clock[0] += pauses[-1] + 1
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
    pace.served()
    assert pace.refused(None) == 1.0


def test_refusals_that_come_together_are_one_refusal(tmp_path: Path) -> None:
    pace = account(tmp_path)
    assert [round(pace.refused(None)) for _ in range(4)] == [1, 1, 1, 1]


def test_a_long_pause_refuses_at_once_and_outlives_the_process(tmp_path: Path) -> None:
    account(tmp_path).refused(3600)
    with pytest.raises(RateLimited, match="run again then"), account(tmp_path).turn():
        pass
    assert list(tmp_path.glob("*.pace"))


def test_an_account_cut_short_by_a_crash_is_begun_anew(tmp_path: Path) -> None:
    pace = account(tmp_path)
    pace.refused(3600)
    next(tmp_path.glob("*.pace")).write_text('{"open_unt')
    with pace.turn():
        assert not pace._read().get("open_until")


@pytest.mark.parametrize("asked", [float("inf"), 1e300, 10.0**9])
def test_no_server_is_obeyed_for_more_than_a_day(tmp_path: Path, asked: float) -> None:
    pace = account(tmp_path)
    assert pace.refused(asked) <= _pace.LONGEST_OBEYED_SECONDS
    with pytest.raises(RateLimited, match=r"ends in 86\d{3} s"), account(tmp_path).turn():
        pass
