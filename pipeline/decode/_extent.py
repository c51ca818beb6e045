"""Whether a file is shorter than it says: FFmpeg ends a cut MP4 or Matroska as if it were whole.

It matters beyond the missing part: frames are stored out of order, so the last ones that decode may
have lost a neighbour that is shown before them.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

EBML_ID = b"\x1a\x45\xdf\xa3"
SEGMENT_ID = b"\x18\x53\x80\x67"
BOXES = (
    b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"sidx", b"ssix", b"moof",
    b"mfra", b"meta", b"meco", b"uuid", b"pdin", b"prft", b"emsg", b"udta",
)  # fmt: skip


def missing_bytes(path: Path) -> int:
    """Return how many bytes an MP4 or Matroska file lacks by its own account; 0 for others."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        if head[4:] in BOXES:
            return max(0, _boxes_end(file, size) - size)
        if head[:4] == EBML_ID:
            return max(0, _segment_end(file, size) - size)
    return 0


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last top-level box ends (ISO/IEC 14496-12, 4.2); what follows it is no loss."""
    at = 0
    while at < size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or head[4:8] not in BOXES:  # 0 means to the end of the file; less is no box
            return size
        at += length
    return at


def _segment_end(file: BinaryIO, size: int) -> int:
    """Where the segment ends, which holds everything after the EBML header (RFC 9559)."""
    file.seek(len(EBML_ID))
    header = _ebml_length(file)
    if header is None:
        return size
    file.seek(header, 1)
    if file.read(4) != SEGMENT_ID:
        return size
    length = _ebml_length(file)
    return size if length is None else file.tell() + length


def _ebml_length(file: BinaryIO) -> int | None:
    """Read a length of 1 to 8 bytes (RFC 8794, 4); None where it is left open."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    more = 8 - first[0].bit_length()
    mask = (1 << (7 * (more + 1))) - 1
    value = int.from_bytes(first + file.read(more), "big") & mask
    return None if value == mask else value
