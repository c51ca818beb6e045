"""What is left to do, from a manifest, what is committed, and what is on disk."""

import weakref
from pathlib import Path

import extractors
from manifests import Segment
from pipeline.errors import VideoMissing
from pipeline.job import Item, Target
from pipeline.plan import limited, make_batches, make_plan
from pipeline.provenance import Recipe
from pipeline.sources import Located
from pipeline.store import Committed, FailureRow

SPEC = extractors.spec("efficientnet-lite0")
TARGET = Target(SPEC, Recipe("efficientnet-lite0", {}))
FILE = Located(Path("/videos/a.mp4"), trimmed=False, size=1000, mtime_ns=7)


def segment(video: str, start: int = 0, end: int | None = 10_000, **said) -> Segment:
    return Segment(video=video, start_ms=start, end_ms=end, **said)


def failure(key: str, code: str, attempts: int, size: int = 1000) -> FailureRow:
    return FailureRow(key, code, "why", attempts, source_size=size, source_mtime_ns=7)


def plan_of(segments, done=(), failures=(), locate=lambda segment: FILE, **flags):
    known = Committed(
        done={key: (1000, 7) for key in done}, failures={row.key: row for row in failures}
    )
    return make_plan(segments, [TARGET], [known], locate, **flags)


def test_only_what_is_missing_is_to_do() -> None:
    plan = plan_of([segment("a"), segment("b")], done=["a_000000_000010"])
    assert [item.segment.video for item in plan.items] == ["b"]
    assert (plan.counts[0].done, plan.counts[0].todo) == (1, 1)
    assert plan.counts[0].expected_rows == 50


def test_changed_times_make_a_new_segment_and_a_changed_label_does_not() -> None:
    done = ["a_000000_000010"]
    assert not plan_of([segment("a", labels=("other",))], done=done).items
    assert plan_of([segment("a", end=11_000)], done=done).items


def test_a_replaced_file_is_noticed() -> None:
    other = Located(FILE.path, trimmed=False, size=1001, mtime_ns=8)
    plan = plan_of([segment("a")], done=["a_000000_000010"], locate=lambda s: other)
    assert plan.counts[0].replaced == 1
    assert len(plan.items) == 1


def test_absent_videos_cost_no_task_and_are_no_error() -> None:
    def nowhere(wanted: Segment) -> Located:
        raise VideoMissing("not in the folder")

    plan = plan_of([segment("a"), segment("b")], done=["b_000000_000010"], locate=nowhere)
    assert not plan.items
    assert [absent.segment.video for absent in plan.absent] == ["a", "b"]
    assert plan.absent[0].detail == "not in the folder"
    assert plan.counts[0].done == 1


def test_a_million_absent_videos_keep_no_frames_alive() -> None:
    """An exception that is kept keeps the frames it came through, and their locals."""

    class Local:
        pass

    seen: list[weakref.ref[Local]] = []

    def nowhere(wanted: Segment) -> Located:
        here = Local()
        seen.append(weakref.ref(here))
        raise VideoMissing("not in the folder")

    plan = plan_of([segment("a")], locate=nowhere)
    assert plan.absent
    assert seen[0]() is None


def test_failures_are_retried_until_their_attempts_are_used_up() -> None:
    key = "a_000000_000010"
    assert plan_of([segment("a")], failures=[failure(key, "timeout", 2)]).items[0].attempts == 2
    given_up = plan_of([segment("a")], failures=[failure(key, "timeout", 3)])
    assert (given_up.counts[0].given_up, given_up.items) == (1, [])
    assert not plan_of([segment("a")], failures=[failure(key, "decode_error", 1)]).items
    assert plan_of(
        [segment("a")], failures=[failure(key, "decode_error", 1)], retry_failed=True
    ).items


def test_a_failed_file_that_was_replaced_starts_afresh() -> None:
    row = failure("a_000000_000010", "decode_error", 1, size=999)
    plan = plan_of([segment("a")], failures=[row])
    assert plan.items[0].attempts == 0


def item(video: str, seconds: int) -> Item:
    return Item(segment(video, end=seconds * 1000), FILE, (0,))


def test_batches_keep_to_one_bucket_64_segments_and_300_seconds() -> None:
    items = [item(f"v{n}", 10) for n in range(500)]
    batches = list(make_batches(items, lambda key: hash(key) % 3, slots=1))
    assert sorted(i.segment.video for b in batches for i in b.items) == sorted(
        i.segment.video for i in items
    )
    for batch in batches:
        assert {hash(i.segment.key) % 3 for i in batch.items} == {batch.bucket}
        assert len(batch.items) <= 64
        assert sum(i.segment.seconds for i in batch.items) <= 300
    assert len({batch.name for batch in batches}) == len(batches)


def test_a_long_segment_is_a_batch_of_its_own() -> None:
    batches = list(make_batches([item("a", 1000), item("b", 10)], lambda key: 0, slots=1))
    assert [len(batch.items) for batch in batches] == [1, 1]


def test_small_runs_give_every_worker_some_work() -> None:
    items = [item(f"v{n}", 2) for n in range(16)]
    assert len(list(make_batches(items, lambda key: 0, slots=4))) == 16


def test_limit_counts_within_the_split() -> None:
    segments = [segment(f"v{n}", split="val" if n % 2 else "train") for n in range(10)]
    assert [s.video for s in limited(segments, "val", 2)] == ["v1", "v3"]


def test_a_download_is_not_taken_for_a_replaced_file_and_a_file_settles_a_dead_link() -> None:
    key = "a_000000_000010"
    downloaded = Committed(done={key: (900, 0)}, failures={})
    assert not make_plan([segment("a")], [TARGET], [downloaded], lambda s: FILE).items
    gone = FailureRow(key, "gone", "404", 1)
    assert plan_of([segment("a")], failures=[gone]).items
    assert not plan_of([segment("a")], failures=[gone], locate=lambda s: None).items


def test_segments_that_share_their_video_are_marked() -> None:
    plan = plan_of([segment("a"), segment("b"), segment("a", 10_000, 20_000)])
    assert [item.shared for item in plan.items] == [True, False, True]
    done = plan_of([segment("a"), segment("a", 10_000, 20_000)], done=["a_000000_000010"])
    assert [item.shared for item in done.items] == [True], "what is done counts as well"
