"""Object storage and other file systems through fsspec: ``s3://bucket/{id}_{start:06d}….mp4``.

fsspec knows some thirty of them behind one interface. Credentials are each system's own affair (its
environment or files), never part of an address. S3 is asked anonymously where no
credentials are set. fsspec itself has no tries, no resume and no limits, so those are
here: the size is asked first and checked at the end, and ranges are read in turn, each tried again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from manifests._segment import Segment
from pipeline.errors import (
    CutShort,
    Forbidden,
    Gone,
    NetworkError,
    NotVideo,
    SegmentFailure,
    Timeout,
    TooLarge,
    UsageError,
)
from pipeline.sources._address import redacted
from pipeline.sources._download import MAY_PASS, backoff
from pipeline.sources._pace import Pace
from pipeline.sources._remote import Remote, check_template, delivered, filled
from pipeline.sources._scratch import release, writing
from pipeline.sources._source import Located, Source, SourceOptions, extension_of

NEEDS = {
    "s3": ("s3fs", "pip install 'action-features[s3]'"),
    "gs": ("gcsfs", "pip install gcsfs"),
    "gcs": ("gcsfs", "pip install gcsfs"),
    "az": ("adlfs", "pip install adlfs"),
    "abfs": ("adlfs", "pip install adlfs"),
    "hf": ("huggingface_hub", "pip install huggingface_hub"),
    "oci": ("ocifs", "pip install ocifs"),
    "sftp": ("paramiko", "pip install paramiko"),
    "hdfs": ("pyarrow", "pip install pyarrow"),
    "memory": ("fsspec", "pip install fsspec"),
}
SCHEMES = tuple(f"{before}{system}://" for system in NEEDS for before in ("", "trimmed:"))
SYNTAX = "s3://BUCKET/{id}_{start:06d}_{end:06d}.mp4: object storage (also gs, az, hf, sftp, hdfs)"

TRIMMED = "trimmed:"
S3_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
RANGE_BYTES = 8 << 20
T = TypeVar("T")


class StorageSource:
    """Videos of a file system that fsspec knows.

    Parameters
    ----------
    text : str
        A template, with ``trimmed:`` before it or not.
    settings : dict, optional
        For the file system's constructor, e.g. an endpoint; never a secret.

    Raises
    ------
    UsageError
        When the template is wrong, or its file system is not installed.
    """

    local = False

    def __init__(
        self, text: str, options: SourceOptions, settings: dict[str, Any] | None = None
    ) -> None:
        self.template = text.removeprefix(TRIMMED)
        self._names_segments = check_template(self.template)
        self.trimmed = self._names_segments or self.template != text
        self._system = self.template.partition("://")[0]
        module, remedy = NEEDS[self._system]
        if find_spec(module) is None:
            raise UsageError(f"--videos {self._system}:// needs {module}: {remedy}")
        if "::" in self.template:
            raise UsageError(f"--videos {self.template} chains file systems; give a plain address")
        self._settings = settings or {}
        self._remote = Remote(options)

    def __reduce__(self) -> tuple[object, tuple[str, SourceOptions, dict[str, Any]]]:
        """Travel as text, options and settings."""
        text = f"{TRIMMED if self.trimmed else ''}{self.template}"
        return StorageSource, (text, self._remote.options, self._settings)

    @cached_property
    def _files(self) -> Any:
        import fsspec

        settings = dict(self._settings)
        if self._system == "s3" and not _has_credentials():
            settings.setdefault("anon", True)
        return fsspec.filesystem(self._system, **settings)

    @cached_property
    def _pace(self) -> Pace:
        bucket = self.template.partition("://")[2].partition("/")[0]
        return Pace(self._remote.accounts, f"{self._system}-{bucket}", self._remote.manners)

    def locate(self, segment: Segment) -> Located:
        """Download the segment's object.

        Raises
        ------
        SegmentFailure
            `Gone` when there is no such object, `Forbidden`, `NetworkError`, `CutShort`,
            `Timeout`, `NotVideo` when it is empty, `TooLarge`.
        """
        address = filled(self.template, segment)
        until = time.monotonic() + self._remote.options.deadline_seconds
        size = self._patiently(address, until, partial(self._size, address))
        path = self._remote.room(size, extension_of(address) or ".mp4")
        try:
            with writing(path), path.open("wb") as file:
                while (start := file.tell()) < size:
                    end = min(start + RANGE_BYTES, size)
                    ask = partial(self._range, address, start, end)
                    file.write(self._patiently(address, until, ask))
        except BaseException:
            release(path)
            raise
        bare = self.trimmed and not self._names_segments
        return delivered(path, trimmed=self.trimmed, bare=bare)

    def _size(self, address: str) -> int:
        size = self._files.info(address)["size"]
        if not size:
            raise NotVideo(f"{redacted(address)} is empty, or a folder")
        if size > self._remote.options.largest_bytes:
            raise TooLarge(f"{redacted(address)} has {size} bytes, more than is accepted")
        return int(size)

    def _range(self, address: str, start: int, end: int) -> bytes:
        chunk: bytes = self._files.cat_file(address, start=start, end=end)
        if len(chunk) != end - start:
            raise CutShort(f"{redacted(address)} gave {len(chunk)} of {end - start} bytes")
        return chunk

    def _patiently(self, address: str, until: float, ask: Callable[[], T]) -> T:
        """Ask in turn, and again where that may help."""
        options = self._remote.options
        failures = 0
        while True:
            if time.monotonic() > until:
                raise Timeout(f"{redacted(address)} was not here by the deadline")
            try:
                with self._pace.turn():
                    return _translated(address, ask)
            except MAY_PASS:
                failures += 1
                if failures >= options.attempts:
                    raise
                time.sleep(backoff(failures - 1, options.backoff_seconds))


def _translated(address: str, ask: Callable[[], T]) -> T:
    """Ask, with the errors of any file system turned into the pipeline's."""
    try:
        return ask()
    except SegmentFailure:
        raise
    except FileNotFoundError as error:
        raise Gone(f"{redacted(address)} is not there") from error
    except PermissionError as error:
        raise Forbidden(f"{redacted(address)} is refused; are credentials set?") from error
    except TimeoutError as error:
        raise Timeout(f"{redacted(address)} did not answer in time") from error
    except Exception as error:  # each of thirty systems has errors of its own
        raise NetworkError(f"{redacted(address)}: {type(error).__name__}") from error


def _has_credentials() -> bool:
    """Whether S3 credentials are set where botocore looks for them."""
    return any(name in os.environ for name in S3_CREDENTIALS) or any(
        (Path.home() / ".aws" / name).exists() for name in ("credentials", "config")
    )


def make(text: str, options: SourceOptions) -> Source:
    """Open object storage.

    Parameters
    ----------
    text : str
        A template with ``{id}``, ``{start:06d}``, ``{end:06d}``, ``{split}``.
    """
    return StorageSource(text, options)
