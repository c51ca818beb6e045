"""YouTube, through yt-dlp as a library: ``youtube:``; full videos, picture only, up to 360 lines.

yt-dlp keeps up with YouTube's changes, weekly; nothing here does what it does. What is here is the
manners (YouTube allows a guest about 300 videos an hour and then refuses the whole address: one
account per machine, one request at a time, an hour's pause after a bot check), the limits, and what
its refusals mean (`_youtube_messages`). YouTube today needs a JavaScript runtime (deno, node, bun)
beside yt-dlp; the extra ``[youtube]`` brings deno. Machines in data centres are mostly refused
without cookies, which are given by file (``--cookies``) and copied for each use, since yt-dlp
writes them back.
"""

from __future__ import annotations

import logging
import re
import shutil
import sys
import time
import uuid
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from manifests._segment import Segment
from pipeline.errors import (
    BotCheck,
    CutShort,
    Forbidden,
    GeoBlocked,
    Gone,
    NetworkError,
    NotInMirror,
    NotVideo,
    RateLimited,
    SegmentFailure,
    Timeout,
    TooLarge,
    UsageError,
)
from pipeline.sources._credentials import cookie_jar, proxy_address
from pipeline.sources._pace import Manners, Pace
from pipeline.sources._remote import Remote, delivered
from pipeline.sources._scratch import release
from pipeline.sources._source import VIDEO_EXTENSIONS, Located, Source, SourceOptions
from pipeline.sources._youtube_messages import meaning

SCHEMES = ("youtube:",)
SYNTAX = "youtube: videos by their YouTube id, through yt-dlp (extra [youtube])"

PAGE = "https://www.youtube.com/watch?v={id}"
EXTRACTOR = "youtube"
ID = re.compile(r"[A-Za-z0-9_-]{11}")
FORMAT = "bv*[height<=360][vcodec^=avc1]/bv*[height<=360]/b[height<=360]/b"
GUEST_VIDEOS_PER_SECOND = 300 / 3600
PAUSE_SECONDS = 3600.0
RUNTIMES = ("deno", "node", "bun")

log = logging.getLogger(__name__)


class YoutubeSource:
    """Videos of YouTube.

    Parameters
    ----------
    options : SourceOptions
        Limits, cookie and proxy files.
    page, extractor : str
        Where a video's page is and which of yt-dlp's extractors may read it; others are for tests.

    Raises
    ------
    UsageError
        When yt-dlp is not installed.
    """

    local = False

    def __init__(
        self, options: SourceOptions, page: str = PAGE, extractor: str = EXTRACTOR
    ) -> None:
        if find_spec("yt_dlp") is None:
            raise UsageError(
                "--videos youtube: needs yt-dlp: pip install 'action-features[youtube]'"
            )
        self.page = page
        self.extractor = extractor
        self._remote = Remote(options)
        if extractor == EXTRACTOR and not _runtimes():
            log.warning(
                "youtube: no JavaScript runtime (%s) is found; most videos will be refused: "
                "pip install 'action-features[youtube]'", ", ".join(RUNTIMES),
            )  # fmt: skip

    def __reduce__(self) -> tuple[object, tuple[SourceOptions, str, str]]:
        """Travel as options and names."""
        return YoutubeSource, (self._remote.options, self.page, self.extractor)

    @cached_property
    def _pace(self) -> Pace:
        rate = min(self._remote.options.requests_per_second, GUEST_VIDEOS_PER_SECOND)
        if self.extractor != EXTRACTOR:
            rate = self._remote.options.requests_per_second
        return Pace(self._remote.accounts, self.extractor, Manners(rate, 1, PAUSE_SECONDS))

    def locate(self, segment: Segment) -> Located:
        """Download the segment's full video.

        Raises
        ------
        SegmentFailure
            The class that YouTube's words mean; `RateLimited` and `BotCheck` also stop the
            requests of this machine for a while.
        """
        if not ID.fullmatch(segment.video):
            raise NotInMirror(f"{segment.video!r} is no YouTube id (11 of A-Z a-z 0-9 _ -)")
        work = self._remote.scratch.own / uuid.uuid4().hex
        work.mkdir()
        try:
            with self._pace.turn():
                located = self._download(self.page.format(id=segment.video), work)
        except (BotCheck, RateLimited) as refusal:
            pause = self._pace.refused(None)
            raise type(refusal)(f"{refusal.detail}; a pause of {pause:.0f} s begins") from refusal
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self._pace.served()
        return located

    def _download(self, page: str, work: Path) -> Located:
        """Ask for the page, reserve room, and bring the video."""
        import yt_dlp

        until = time.monotonic() + self._remote.options.deadline_seconds
        try:
            with yt_dlp.YoutubeDL(self._parameters(work, until)) as downloader:
                info = downloader.extract_info(page, download=False)
                place = self._admitted(info, page)
                try:
                    done = downloader.process_ie_result(info, download=True)
                    return self._placed(done, work, place)
                except BaseException:
                    release(place)
                    raise
        except yt_dlp.utils.YoutubeDLError as error:
            failure = _failure(error, page, self._proxy)
        raise failure  # out here, without the chain: it may hold the proxy, and sockets

    def _admitted(self, info: dict[str, Any], page: str) -> Path:
        if info.get("_type", "video") != "video" or info.get("is_live"):
            raise NotVideo(f"{page} is a list or a live stream, not one video")
        size = info.get("filesize") or info.get("filesize_approx")
        if size and size > self._remote.options.largest_bytes:
            raise TooLarge(f"{page} has {size} bytes, more than is accepted")
        extension = f".{info.get('ext')}"
        if extension not in VIDEO_EXTENSIONS:
            raise NotVideo(f"{page} is a {extension} file, not a video")
        return self._remote.room(None if size is None else int(size), extension)

    def _placed(self, done: dict[str, Any], work: Path, place: Path) -> Located:
        """Move what was brought to its reserved place."""
        found = [path for path in work.iterdir() if path.suffix in VIDEO_EXTENSIONS]
        if not found:
            raise TooLarge(f"{done.get('webpage_url')} is larger than is accepted")
        found[0].replace(place)
        return delivered(place, trimmed=False)

    @cached_property
    def _proxy(self) -> str:
        path = self._remote.options.proxy
        return "" if path is None else proxy_address(path)

    def _parameters(self, work: Path, until: float) -> dict[str, Any]:
        """Return yt-dlp's settings; see its ``YoutubeDL`` for each."""
        options = self._remote.options

        def watch(_: dict[str, Any]) -> None:
            if time.monotonic() > until:
                raise Timeout("the video was not here by the deadline")

        parameters: dict[str, Any] = {
            "allowed_extractors": [self.extractor],
            "cachedir": False,
            "enable_file_urls": False,
            "fixup": "never",
            "format": FORMAT,
            "fragment_retries": options.attempts,
            "js_runtimes": _runtimes() or {"deno": {}},
            "logger": _Silent(),
            "max_filesize": options.largest_bytes,
            "noplaylist": True,
            "noprogress": True,
            "outtmpl": "video.%(ext)s",
            "paths": {"home": str(work)},
            "progress_hooks": [watch],
            "quiet": True,
            "retries": options.attempts,
            "retry_sleep_functions": {
                kind: lambda n: min(options.backoff_seconds * 2**n, 60.0)
                for kind in ("http", "fragment", "extractor")
            },
            "socket_timeout": options.stall_seconds,
            "updatetime": False,
        }
        if options.cookies is not None:
            cookie_jar(options.cookies)  # says what is wrong with it without showing it
            parameters["cookiefile"] = shutil.copyfile(options.cookies, work / "cookies")
        if self._proxy:
            parameters["proxy"] = self._proxy
        return parameters


class _Silent:
    """yt-dlp's log: nothing of it is shown, since failures carry their reason."""

    def debug(self, _: str) -> None:
        """Drop a line."""

    info = warning = error = debug


def _failure(error: Exception, page: str, secret: str) -> SegmentFailure:
    """Return what one of yt-dlp's errors means."""
    from yt_dlp.networking.exceptions import HTTPError, TransportError
    from yt_dlp.utils import GeoRestrictedError, UnsupportedError

    information = getattr(error, "exc_info", None)
    cause = information[1] if information else None
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).removeprefix("ERROR: ")
    if secret:
        text = text.replace(secret, "(the proxy)")
    inner = getattr(cause, "cause", None)
    for found in (cause, inner):
        if isinstance(found, HTTPError):
            found.close()
            return _of_status(found.status)(f"{page} answered {found.status}")
    kind = meaning(text)
    if isinstance(cause, GeoRestrictedError):
        kind = GeoBlocked
    elif isinstance(cause, UnsupportedError):
        kind = NotVideo
    elif isinstance(cause, TransportError) or isinstance(inner, TransportError):
        kind = Timeout if kind is Timeout else NetworkError
    return kind(f"{page}: {text}")


def _of_status(status: int) -> type[SegmentFailure]:
    if status in (404, 410):
        return Gone
    if status == 416:
        return CutShort
    if status == 429:
        return RateLimited
    return NetworkError if status >= 500 else Forbidden


def _runtimes() -> dict[str, dict[str, str]]:
    """Return the JavaScript runtimes at hand: beside this Python, or on the path."""
    beside = str(Path(sys.executable).parent)
    found = {name: shutil.which(name, path=beside) or shutil.which(name) for name in RUNTIMES}
    return {name: {"path": path} for name, path in found.items() if path}


def make(text: str, options: SourceOptions) -> Source:
    """Open YouTube.

    Raises
    ------
    UsageError
        When something follows ``youtube:``, or yt-dlp is not installed.
    """
    if text != SCHEMES[0]:
        raise UsageError(f"--videos {text}: expected youtube: alone; the ids are in the manifest")
    return YoutubeSource(options)
