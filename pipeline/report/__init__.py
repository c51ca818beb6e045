"""What people see of a run: a progress line, a summary, its files, and one page of HTML.

``OUT/failures.csv`` (a manifest to run again), ``OUT/coverage.json`` and ``OUT/runs/<id>/`` are
derived: every number in them can be made again from the committed shards and the manifest.
"""

from pipeline.report.files import FAILURE_COLUMNS, write_json, write_run, write_state
from pipeline.report.page import write_page
from pipeline.report.progress import Progress
from pipeline.report.quantities import duration, size
from pipeline.report.summary import Summary, dry_run_text, plan_text

__all__ = [
    "FAILURE_COLUMNS",
    "Progress",
    "Summary",
    "dry_run_text",
    "duration",
    "plan_text",
    "size",
    "write_json",
    "write_page",
    "write_run",
    "write_state",
]
