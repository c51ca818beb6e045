"""What a worker does with a batch, where it is not seen from the command line."""

from pathlib import Path

import pytest

import extractors
from manifests import Segment
from pipeline.job import Batch, Item, Job, Settings, Target
from pipeline.monitor import Monitor
from pipeline.provenance import Recipe
from pipeline.sources import Located
from pipeline.work import extract_batch


class Downloads:
    """A remote source that notes what is given back to it."""

    def __init__(self) -> None:
        self.released: list[Located] = []

    def locate(self, segment: Segment) -> Located:
        return Located(Path("video.mp4"), trimmed=False, size=1, mtime_ns=0, scratch=True)

    def release(self, located: Located) -> None:
        self.released.append(located)


def test_a_download_is_given_back_even_when_the_run_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    downloads = Downloads()
    monkeypatch.setattr("pipeline.work._sources", lambda job: downloads)
    monkeypatch.setattr("pipeline.work.decode.probe", broken)
    spec = extractors.spec("efficientnet-lite0")
    target = Target(spec, Recipe(spec.name, {}))
    job = Job(
        out=tmp_path, targets=(target,), settings=Settings(), flow_cache=tmp_path, flow_only=True
    )
    batch = Batch("b", 0, (Item(Segment(video="v"), None, (0,)),))
    with pytest.raises(RuntimeError, match="a bug"):
        extract_batch(job, batch, Monitor("b", lambda event: None))
    assert len(downloads.released) == 1
