"""A sentence for each line of the table, as YouTube or yt-dlp writes it."""

import pytest

from pipeline.sources._youtube_messages import MESSAGES, meaning

SENTENCES = [
    ("Sign in to confirm you\u2019re not a bot. Use --cookies for the authentication", "bot_check"),
    ("Video unavailable. YouTube is requiring a captcha challenge before playback", "bot_check"),
    ("All player responses are invalid. Your IP is likely being blocked by Youtube", "bot_check"),
    ("The current session has been rate-limited by YouTube for up to an hour", "rate_limited"),
    ("This content isn't available, try again later.", "rate_limited"),
    ("unable to download video data: HTTP Error 429: Too Many Requests", "rate_limited"),
    ("Sign in to confirm your age. This video may be inappropriate for some users.", "age"),
    ("This video is age-restricted; some formats may be missing", "age"),
    ("The following content may be inappropriate for some users", "age"),
    ("This is members-only content", "members"),
    ("This video is available to this channel's members on level: Gold", "members"),
    ("Join this channel to get access to exclusive perks", "members"),
    ("This video requires payment to watch", "members"),
    ("The uploader has not made this video available in your country", "geo"),
    ("This video contains content from SME, who has blocked it in your country", "geo"),
    ("Video unavailable. This video is not available in your country", "geo"),
    ("This video is geo-restricted", "geo"),
    ("Private video. Sign in if you've been granted access to this video", "private"),
    ("Video unavailable. This video is private", "private"),
    ("Video unavailable. This video has been removed by the uploader", "removed"),
    (
        "This video is no longer available because the YouTube account associated with this "
        "video has been terminated.",
        "removed",
    ),
    ("Video unavailable because the uploader has closed their YouTube account.", "removed"),
    ("This video is no longer available due to a copyright claim by X", "removed"),
    ("This video has been removed for violating YouTube's Terms of Service", "removed"),
    ("This video was taken down; it violates YouTube's policy on spam", "removed"),
    ("This video has been removed", "removed"),
    ("This live stream recording is not available.", "gone"),
    ("This video is not available", "gone"),
    ("This video isn't available anymore", "gone"),
    ("Video unavailable", "gone"),
    ("This video does not exist", "gone"),
    ("This video is DRM protected", "unsupported"),
    ("Unsupported URL: http://127.0.0.1/x", "not_video"),
    ("Downloaded 1000 bytes, expected 2000 bytes", "cut_short"),
    ("1000 bytes read, 1000 more expected", "cut_short"),
    ("Did not get any data blocks", "cut_short"),
    ("The downloaded file is empty", "cut_short"),
    ("The read operation timed out", "timeout"),
    ("Unable to download API page: something", "network"),
    ("<urlopen error [Errno 104] Connection reset by peer>", "network"),
]


@pytest.mark.parametrize(("sentence", "code"), SENTENCES)
def test_a_sentence_has_its_class(sentence: str, code: str) -> None:
    assert meaning(sentence).code == code


@pytest.mark.parametrize(("number", "sentence"), list(enumerate(text for text, _ in SENTENCES)))
def test_every_line_of_the_table_is_what_decides_its_sentence(number: int, sentence: str) -> None:
    import re

    plain = sentence.replace("\u2019", "'")
    first = next(
        index for index, (pattern, _) in enumerate(MESSAGES) if re.search(pattern, plain, re.I)
    )
    assert first == number


def test_every_line_has_a_sentence() -> None:
    assert len(SENTENCES) == len(MESSAGES)


@pytest.mark.parametrize("sentence", ["", "Premieres in 3 hours", "Irgendetwas ging schief"])
def test_unknown_words_are_tried_a_few_times(sentence: str) -> None:
    assert meaning(sentence).code == "unexplained"
    assert 1 < meaning(sentence).max_attempts < 10
