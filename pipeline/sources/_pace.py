"""Manners towards servers: a token bucket, a number of lines, and a circuit breaker for each.

Servers count by the address that asks, so all processes of a machine share one account for each
server: a small file in the scratch folder, changed under a lock. It outlives the run on purpose: a
server that asked for an hour's pause is not asked again by the next run.

- *Bucket*: one request every ``1 / requests_per_second`` on average, a few at once after a rest.
- *Lines*: at most so many requests to one server at a time.
- *Breaker*: a 429 or a bot check opens it. A short pause is waited out; during a long one every
  request fails at once with `RateLimited`, which is handed back and not counted as an attempt.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RateLimited

BURST = 4
PATIENCE_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 30.0
LONGEST_PAUSE_SECONDS = 3600.0
LONGEST_OBEYED_SECONDS = 24 * 3600.0
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Manners:
    """How one server is to be treated.

    Attributes
    ----------
    requests_per_second : float
        Mean rate over all processes of this machine.
    lines : int
        Most requests at a time.
    pause_seconds : float
        First pause after a refusal without a ``Retry-After``; doubled up to an hour.
    """

    requests_per_second: float
    lines: int
    pause_seconds: float = FIRST_PAUSE_SECONDS


class Pace:
    """The account of this machine with one server.

    Parameters
    ----------
    folder : Path
        Shared by all processes of this machine.
    server : str
        Name and port of the server, and the address of this machine where it has several.
    """

    def __init__(self, folder: Path, server: str, manners: Manners) -> None:
        self.server = server
        self.manners = manners
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / (re.sub(r"[^A-Za-z0-9.-]", "_", server) + ".pace")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a line and a token, and hold the line for the length of the block.

        Raises
        ------
        RateLimited
            When the breaker is open for longer than is worth waiting.
        """
        line = self._line()
        try:
            while (wait := self._wait_seconds()) > 0:
                time.sleep(wait)
            yield
        finally:
            os.close(line)

    def refused(self, retry_after_seconds: float | None) -> float:
        """Open the breaker and return for how many seconds.

        Parameters
        ----------
        retry_after_seconds : float or None
            What the server asked for, of which a day is obeyed; None doubles the last pause.
        """
        with self._account() as account:
            now = time.time()
            before = account.get("pause", self.manners.pause_seconds / 2)
            still_open = account.get("open_until", 0.0) > now
            if retry_after_seconds is None:
                pause = before if still_open else min(before * 2, LONGEST_PAUSE_SECONDS)
                account["pause"] = pause
            else:
                pause = min(retry_after_seconds, LONGEST_OBEYED_SECONDS)
            account["open_until"] = max(account.get("open_until", 0.0), now + pause)
            return account["open_until"] - now

    def served(self) -> None:
        """Note a success: the next refusal starts with the first pause again."""
        if "pause" in self._read():
            with self._account() as account:
                account.pop("pause", None)

    def _wait_seconds(self) -> float:
        """Take a token and return 0, or say how long to wait before asking again."""
        with self._account() as account:
            now = time.time()
            closed_for = account.get("open_until", 0.0) - now
            if closed_for > PATIENCE_SECONDS:
                raise RateLimited(
                    f"{self.server} asked for a pause, which ends in {math.ceil(closed_for)} s; "
                    f"run again then (or remove {self._path} to ask at once)"
                )
            if closed_for > 0:
                return closed_for
            rate = self.manners.requests_per_second
            tokens = account.get("tokens", float(BURST))
            tokens += max(0.0, now - account.get("at", now)) * rate
            tokens = min(tokens, max(1.0, min(float(BURST), rate)))
            wait = 0.0 if tokens >= 1 else (1 - tokens) / rate
            account.update(tokens=tokens - 1 if wait == 0 else tokens, at=now)
            return wait

    def _line(self) -> int:
        """Return the lock of a free line, once there is one."""
        while True:
            for number in range(self.manners.lines):
                path = self._path.with_suffix(f".line{number}")
                descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                else:
                    return descriptor
            time.sleep(POLL_SECONDS)

    @contextmanager
    def _account(self) -> Iterator[dict[str, float]]:
        """Read the account, and write it back, under its lock."""
        descriptor = os.open(self._path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            account = self._read()
            yield account
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps(account))
            fresh.replace(self._path)
        finally:
            os.close(descriptor)

    def _read(self) -> dict[str, float]:
        try:
            account: dict[str, float] = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):  # none yet, or cut short by a power failure
            return {}
        return account
