"""What every source that downloads shares: scratch space, accounts with servers, and naming."""

from __future__ import annotations

import tempfile
from functools import cached_property
from pathlib import Path
from string import Formatter

from manifests._segment import MILLISECONDS_PER_SECOND, Segment
from pipeline.errors import UsageError, VideoMissing
from pipeline.sources._address import safe_name
from pipeline.sources._pace import Manners
from pipeline.sources._scratch import FOLDER, Scratch
from pipeline.sources._source import Located, SourceOptions

FIELDS = ("id", "start", "end", "split", "url")


class Remote:
    """The workplace of a source that downloads; made anew in each process.

    Parameters
    ----------
    options : SourceOptions
        Limits and folders.
    """

    def __init__(self, options: SourceOptions) -> None:
        self.options = options

    @cached_property
    def scratch(self) -> Scratch:
        """Share of this process in the scratch space, made when the first file comes."""
        return Scratch(self.options.scratch, self.options.scratch_bytes)

    @property
    def parts(self) -> Path:
        """Folder of unfinished downloads, on the disk of the scratch space."""
        return self.options.parts or self.scratch.own

    @property
    def accounts(self) -> Path:
        """Folder of this machine's accounts with servers."""
        return self.options.accounts or Path(tempfile.gettempdir()) / FOLDER / "accounts"

    @property
    def manners(self) -> Manners:
        """How a server is treated, as the options say."""
        return Manners(self.options.requests_per_second, self.options.requests_at_a_time)

    def room(self, size: int | None, extension: str) -> Path:
        """Reserve scratch space, of the largest size allowed where the size is not known."""
        wanted = self.options.largest_bytes if size is None else size
        return self.scratch.reserve(
            wanted, extension=extension, wait_seconds=self.options.deadline_seconds
        )


def delivered(path: Path, *, trimmed: bool, bare: bool = False) -> Located:
    """Return what a source answers when a download stands in scratch space."""
    return Located(path, trimmed, path.stat().st_size, mtime_ns=0, scratch=True, bare=bare)


def check_template(text: str) -> bool:
    """Check a template of URLs and return whether it names segments (has ``start`` or ``end``).

    Raises
    ------
    UsageError
        When it holds an unknown field, or none.
    """
    try:
        parsed = [(name, spec) for _, name, spec, _ in Formatter().parse(text) if name is not None]
        for name, spec in parsed:
            format(0 if name in ("start", "end") else "", spec or "")
    except ValueError as error:
        raise UsageError(f"--videos {text!r} is no template: {error}") from error
    names = {name for name, _ in parsed}
    if not names or names - set(FIELDS) or not names & {"id", "url"}:
        raise UsageError(
            f"--videos {text!r} has the fields {sorted(names)}; expected {{id}}, and of "
            "{start:06d} {end:06d} {split} what the server's names need"
        )
    return bool(names & {"start", "end"})


def filled(template: str, segment: Segment) -> str:
    """Return a template with a segment's values, each checked to be a safe name.

    Raises
    ------
    Blocked
        When the id is no safe name.
    VideoMissing
        When the template needs whole seconds, an end, or a URL that the segment does not have.
    """
    named = {name for _, name, _, _ in Formatter().parse(template)}
    values: dict[str, object] = {"url": segment.url}
    for name, text in (("id", segment.video), ("split", segment.split)):
        if name in named:
            values[name] = safe_name(text)
    for name, milliseconds in (("start", segment.start_ms), ("end", segment.end_ms)):
        if name not in named:
            continue
        if milliseconds is None or milliseconds % MILLISECONDS_PER_SECOND:
            raise VideoMissing(
                f"{segment.key} has no {name} in whole seconds, which {template!r} asks for"
            )
        values[name] = milliseconds // MILLISECONDS_PER_SECOND
    if "url" in named and not segment.url:
        raise VideoMissing(f"the manifest has no URL for {segment.video}")
    return template.format(**values)
