"""Runs ``pipeline`` in this process, through the very function that is its entry point."""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from unittest import mock

import pipeline.cli


@dataclass(frozen=True)
class Result:
    status: int
    output: str


@contextlib.contextmanager
def _arguments(words: list[str]) -> Iterator[io.StringIO]:
    text = io.StringIO()
    with (
        mock.patch("sys.argv", ["pipeline", *words]),
        contextlib.redirect_stdout(text),
        contextlib.redirect_stderr(text),
    ):
        yield text


def run(*words: object) -> Result:
    """Run a command line; return its exit status and everything it wrote."""
    with _arguments([str(word) for word in words]) as text:
        try:
            pipeline.cli.main()
        except SystemExit as end:
            return Result(int(end.code or 0), text.getvalue())
    raise AssertionError("main() always exits")
