"""What YouTube's refusals mean, in one table.

YouTube gives no codes, only sentences, which yt-dlp passes on. Each line of `MESSAGES` is a pattern
and the class it means; the first that is found decides, so the exact stand before the general. A
sentence that no line knows is `Unexplained` and tried a few times: sentences change more often than
reasons do.
"""

from __future__ import annotations

import re

from pipeline.errors import (
    AgeRestricted,
    BotCheck,
    CutShort,
    GeoBlocked,
    Gone,
    MembersOnly,
    NetworkError,
    NotVideo,
    Private,
    RateLimited,
    Removed,
    SegmentFailure,
    Timeout,
    Unexplained,
    Unsupported,
)

MESSAGES: tuple[tuple[str, type[SegmentFailure]], ...] = (
    # The address that asks is the matter, not the video.
    (r"not a bot", BotCheck),
    (r"captcha", BotCheck),
    (r"IP is likely being blocked", BotCheck),
    (r"rate-limited by YouTube", RateLimited),
    (r"isn't available, try again later", RateLimited),
    (r"Too Many Requests", RateLimited),
    # Who asks, and from where.
    (r"confirm your age", AgeRestricted),
    (r"age[- ]restricted", AgeRestricted),
    (r"inappropriate for some users", AgeRestricted),
    (r"members[- ]only", MembersOnly),
    (r"available to this channel's members", MembersOnly),
    (r"Join this channel", MembersOnly),
    (r"requires payment", MembersOnly),
    (r"not made this video available in your (country|location)", GeoBlocked),
    (r"blocked it in your (country|location)", GeoBlocked),
    (r"not available (in|from) your (country|location|region)", GeoBlocked),
    (r"geo[- ]?restrict", GeoBlocked),
    # What became of the video.
    (r"private video", Private),
    (r"video is private", Private),
    (r"removed by the uploader", Removed),
    (r"account .*has been terminated", Removed),
    (r"closed their YouTube account", Removed),
    (r"copyright (claim|grounds)", Removed),
    (r"removed for violating", Removed),
    (r"violat\w+ YouTube's", Removed),
    (r"has been removed", Removed),
    (r"live stream recording is not available", Gone),
    (r"video is (no longer|not) available", Gone),
    (r"video isn't available any ?more", Gone),
    (r"video (is )?unavailable", Gone),
    (r"video does not exist", Gone),
    # What came is not what was wanted.
    (r"DRM[- ]protected", Unsupported),
    (r"Unsupported URL", NotVideo),
    (r"Downloaded \d+ bytes, expected \d+ bytes", CutShort),
    (r"bytes read, \d+ more expected", CutShort),
    (r"did not get any data blocks", CutShort),
    (r"downloaded file is empty", CutShort),
    # The way there.
    (r"timed? ?out", Timeout),
    (r"Unable to download (webpage|API page|video data)", NetworkError),
    (r"(Connection (reset|refused|aborted)|name resolution|Name or service)", NetworkError),
)

_COMPILED = tuple((re.compile(pattern, re.IGNORECASE), kind) for pattern, kind in MESSAGES)


def meaning(text: str) -> type[SegmentFailure]:
    """Return the class that a sentence of YouTube or yt-dlp means.

    Examples
    --------
    >>> meaning("Video unavailable. This video is private").code
    'private'
    >>> meaning("Sign in to confirm you\u2019re not a bot.").code
    'bot_check'
    """
    plain = text.replace("\u2019", "'")
    for pattern, kind in _COMPILED:
        if pattern.search(plain):
            return kind
    return Unexplained
