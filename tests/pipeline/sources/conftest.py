from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.sources import SourceOptions
from tests.faults.http_server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., SourceOptions]:
    """Options for the loopback: everything below a folder of the test, and in a hurry."""

    def make(**changes: object) -> SourceOptions:
        quick = {
            "scratch": tmp_path / "scratch",
            "accounts": tmp_path / "accounts",
            "allow_private": True,
            "requests_per_second": 1000.0,
            "backoff_seconds": 0.01,
            "stall_seconds": 0.5,
            "deadline_seconds": 10.0,
        }
        return SourceOptions(**{**quick, **changes})

    return make
