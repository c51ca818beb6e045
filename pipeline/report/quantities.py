"""Lengths of time and numbers of bytes, as people say them."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Return a length of time for people.

    Examples
    --------
    >>> duration(8.2), duration(95), duration(7300)
    ('8 s', '1 min 35 s', '2 h 1 min')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def size(number: float) -> str:
    """Return a number of bytes for people.

    Examples
    --------
    >>> size(900), size(2_560_000)
    ('900 B', '2.6 MB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"
