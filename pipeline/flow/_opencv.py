"""OpenCV, imported when it is first needed, with an error that says what is missing."""

from __future__ import annotations

from typing import Any

from pipeline.errors import UsageError

MISSING = (
    "OpenCV cannot be used for flow ({reason}); install opencv-contrib-python with the system's "
    "libgl1 and libglib2.0-0, or its twin opencv-contrib-python-headless, which needs neither"
)


def opencv() -> Any:
    """Return the module ``cv2``; raise `UsageError` when it cannot be imported."""
    try:
        import cv2
    except ImportError as error:
        raise UsageError(MISSING.format(reason=error)) from error
    return cv2
