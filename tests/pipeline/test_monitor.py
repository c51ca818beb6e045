"""Signs of life and requests to stop."""

import threading
import time

import pytest

from pipeline import monitor
from pipeline.job import Item, Job, Settings
from pipeline.monitor import EVERY_RUN, Event, Monitor, allow, request_stop, stop_requested
from pipeline.work import _located


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    monkeypatch.setattr(monitor, "SECONDS_BETWEEN_SIGNS_OF_LIFE", 0.01)
    return []


def test_a_wait_gives_signs_of_life_and_no_more_after_it(events: list[Event]) -> None:
    watched = Monitor("b", events.append)
    watched.started("k")
    threads = threading.active_count()
    with watched.waiting():
        time.sleep(0.2)
    assert threading.active_count() == threads
    assert {event.kind for event in events[1:]} == {"alive"}
    assert len(events) > 3
    assert all(event.segment == "k" for event in events)


def test_a_long_download_is_no_hanging_worker(
    events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow:
        def locate(self, segment: object) -> str:
            time.sleep(0.2)
            return "there"

    monkeypatch.setattr("pipeline.work._sources", lambda job: Slow())
    job = Job(out=None, targets=(), settings=Settings())
    assert _located(job, Item(None, None, ()), Monitor("b", events.append)) == "there"
    assert len(events) > 3


def test_a_stop_is_for_one_run_or_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor, "_stopping", set())
    request_stop("mine")
    assert stop_requested("mine")
    assert not stop_requested("a colleague's")
    allow("mine")
    assert not stop_requested("mine")
    request_stop(EVERY_RUN)
    assert stop_requested("mine") and stop_requested("a colleague's")
