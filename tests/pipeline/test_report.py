"""What a run leaves to read: tallies, files that are whole or not there, and one page of HTML."""

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import extractors
from manifests import Segment
from pipeline.errors import FAILURES
from pipeline.job import Failed, Item, Job, Receipt, Settings, Target
from pipeline.monitor import Event
from pipeline.plan import Absent, Plan, TargetCounts
from pipeline.provenance import Recipe
from pipeline.report import Progress, Summary, duration, size, write_page, write_run, write_state
from pipeline.report.page import LABELS_SHOWN, page
from pipeline.store import Committed, FailureRow

HOSTILE = "<script>alert('x')</script> & \"quoted\""
ABOUT = {
    "path": "list.csv",
    "sha256": "ab" * 32,
    "dataset": "kinetics",
    "command": "extract -m x",
    "rejects": 0,
}


class Reader(HTMLParser):
    """Collects what a browser would show, and what it would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]
        assert not any(name.startswith("on") for name, _ in attributes)

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def segment(number: int, **said) -> Segment:
    return Segment(video=f"v{number}", end_ms=10_000, **said)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    spec = extractors.spec("efficientnet-lite0")
    target = Target(spec, Recipe("efficientnet-lite0", {}))
    return Job(out=tmp_path, targets=(target,), settings=Settings(), run="run1")


def ended(job: Job, done: int = 5, failed: int = 3, left: int = 2, absent: int = 4) -> Summary:
    """A run of which every count is another number; 6 segments were done before."""
    to_do = done + failed + left
    plan = Plan(
        segments=6 + to_do + absent,
        present=6 + to_do,
        absent=[Absent(segment(n), "video_missing", HOSTILE) for n in range(absent)],
        items=[Item(segment(100 + n), None, (0,)) for n in range(to_do)],
        counts=[TargetCounts(done=6, todo=to_do)],
    )
    progress = Progress(0, io.StringIO())
    failures = tuple(Failed(f"k{n} {HOSTILE}", "truncated", HOSTILE) for n in range(failed))
    keys = tuple(f"d{n}" for n in range(done))
    progress.receipt(
        Receipt(batch="b", done=keys, failed=failures, rows=50, bytes=2048, shards=("s",),
                seconds={"decode": 1.5, "embed": 0.5}, counts={"frames": 1234})
    )  # fmt: skip
    progress.close()
    return Summary(plan, progress, job)


def shown(summary: Summary, coverage: dict | None = None) -> Reader:
    return Reader(page({**summary.to_json(), "manifest": ABOUT}, coverage or {}))


def covered(classes: dict) -> dict:
    return {"r": {"segments": 9, "done": 4, "split": {"": {"done": 4, "absent": 5}},
                  "class": classes, "done_keys": []}}  # fmt: skip


def test_the_counts_of_the_page_are_those_of_the_summary_and_add_up(job: Job) -> None:
    text = shown(ended(job)).text
    assert "20 segments" in text
    counts = "6 settled by earlier runs 5 done by this run 3 failed 2 left 4 without a video"
    assert counts in text
    assert sum(int(word) for word in counts.split() if word.isdigit()) == 20
    assert "truncated 3" in text
    assert "video_missing 4" in text
    assert "frames 1,234" in text
    assert "decode 1.5 75% 187.5" in text


def test_what_strangers_wrote_stays_text(job: Job) -> None:
    coverage = covered({HOSTILE: {"done": 1, "truncated": 2}})
    found = shown(replace(ended(job), stopped=HOSTILE), coverage)
    assert "script" not in found.tags
    assert found.text.count("alert('x')") >= 5
    recipe = f"../../{job.targets[0].recipe.folder}/recipe.json"
    files = {"absent.csv", "../../failures.csv", recipe}
    assert set(found.links) == files


def test_every_code_is_explained(job: Job) -> None:
    for code in FAILURES:
        summary = ended(job, failed=0)
        summary.progress.failed(Failed("k", code, "why"))
        text = shown(summary).text
        assert FAILURES[code].__doc__.partition("\n")[0].replace("``", "") in text


def test_a_long_list_of_classes_is_cut_and_says_so(job: Job) -> None:
    many = {f"class {n:03d}": {"done": n, "absent": 400 - n} for n in range(400)}
    text = shown(ended(job), covered(many)).text
    assert f"The {LABELS_SHOWN} least covered of 400 classes" in text
    assert "class 000" in text
    assert f"class {LABELS_SHOWN:03d}" not in text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "2 segments are left. Run the same command to go on."),
        ({"interrupted": True}, "Interrupted."),
        ({"stopped": "no room for x"}, "Stopped by an error: no room for x"),
    ],
)
def test_the_page_begins_with_what_is_to_be_done(job: Job, changes: dict, said: str) -> None:
    assert said in shown(replace(ended(job), **changes)).text
    assert "Every segment is accounted for." in shown(ended(job, left=0)).text


def test_a_run_with_nothing_to_do_has_a_page(job: Job) -> None:
    found = shown(ended(job, done=0, failed=0, left=0, absent=0))
    assert "Every segment is accounted for." in found.text
    assert "Time" not in found.words


def test_the_page_is_made_of_what_stands_on_disk(job: Job) -> None:
    folder = write_run(ended(job), ABOUT)
    known = Committed(done={}, failures={})
    coverage = write_state([segment(1, labels=("a",))], job, [known])
    write_page(folder / "report.html", {**ended(job).to_json(), "manifest": ABOUT}, coverage)
    on_disk = [folder / "summary.json", job.out / "coverage.json"]
    again = Reader(page(*(json.loads(path.read_text()) for path in on_disk)))
    assert again.text == Reader((folder / "report.html").read_text()).text


def test_the_text_counts_as_the_files_do(job: Job) -> None:
    summary = ended(job)
    assert summary.text().startswith(
        "5 segments done, 3 failed, 2 left, 4 without a video; 50 rows"
    )
    assert "3 x truncated, the first: k0" in summary.text()
    found = summary.to_json()
    assert (found["done"], found["failed"], found["left"]) == (5, {"truncated": 3}, 2)
    assert found["absent"] == {"video_missing": 4}


def test_nothing_to_do_is_said_so(job: Job) -> None:
    nothing = ended(job, done=0, failed=0, left=0)
    assert nothing.text() == "nothing to do; 4 segments are without a video"


def test_failures_are_kept_by_number_not_one_by_one() -> None:
    progress = Progress(0, io.StringIO())
    for n in range(1000):
        progress.failed(Failed(f"k{n}", "gone" if n % 2 else "private", "why"))
    assert progress.codes == {"gone": 500, "private": 500}
    assert [len(kept) for kept in progress.examples.values()] == [5, 5]


def test_the_log_line_never_promises_less_than_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("pipeline.report.progress.time.monotonic", lambda: clock[0])
    stream = io.StringIO()
    progress = Progress(1, stream)
    for _ in range(3):  # its worker died twice after the segment had come through
        clock[0] += 60
        progress.event(Event("b", "done", "k", 5))
    assert stream.getvalue().splitlines()[-1].endswith("3/1 segments, 0 failed, 0.0833 frames/s, "
                                                       "about 0 s left")  # fmt: skip


def test_a_list_of_failures_is_a_manifest_without_formulas(job: Job) -> None:
    row = FailureRow("k", "gone", "=HYPERLINK(1)", 1, video="-dash", label="a, b")
    write_state([], job, [Committed(done={}, failures={"k": row})])
    with (job.out / "failures.csv").open(newline="") as file:
        (found,) = csv.DictReader(file)
    assert (found["video"], found["label"], found["detail"]) == ("-dash", "a, b", "'=HYPERLINK(1)")


def test_a_file_that_cannot_be_written_whole_is_not_there_at_all(job: Job) -> None:
    class Full(dict):
        def values(self):
            yield FailureRow("k", "gone", "why", 1, video="v")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_state([], job, [Committed(done={}, failures=Full())])
    assert list(job.out.iterdir()) == []


def test_amounts_are_for_people() -> None:
    assert [duration(s) for s in (0.4, 59.9, 60, 3599, 3600)] == [
        "0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min",
    ]  # fmt: skip
    assert [size(n) for n in (0, 999, 1000, 1e12)] == ["0 B", "999 B", "1.0 kB", "1.0 TB"]
