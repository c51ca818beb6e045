"""What a container says of its own length, and what is missing of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.decode._extent import missing_bytes

BOX = (16).to_bytes(4, "big") + b"ftypisom" + bytes(4)
LARGE_BOX = (1).to_bytes(4, "big") + b"mdat" + (40).to_bytes(8, "big") + bytes(24)
OPEN_BOX = bytes(4) + b"mdat" + bytes(30)
EBML = b"\x1a\x45\xdf\xa3" + b"\x82" + bytes(2)
SEGMENT = EBML + b"\x18\x53\x80\x67" + b"\x40\x64" + bytes(100)
LIVE_SEGMENT = EBML + b"\x18\x53\x80\x67" + b"\x01" + b"\xff" * 7 + bytes(100)


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (BOX + LARGE_BOX, 0), (BOX + LARGE_BOX[:-5], 5), (BOX + OPEN_BOX, 0),
        (BOX + b"\x7fjunk after the end", 0),
        (SEGMENT, 0), (SEGMENT[:-7], 7), (LIVE_SEGMENT[:-7], 0),
        (b"RIFF" + bytes(40), 0), (b"", 0), (EBML, 0),
    ],
    ids=[
        "boxes", "cut box", "box to the end", "junk after", "segment", "cut segment",
        "live segment", "another format", "empty", "header alone",
    ],
)  # fmt: skip
def test_missing_bytes(tmp_path: Path, content: bytes, missing: int) -> None:
    path = tmp_path / "video"
    path.write_bytes(content)
    assert missing_bytes(path) == missing
