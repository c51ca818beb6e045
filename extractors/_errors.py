"""Errors of the extractors.

ExtractorError             a name, a setting or an input that an extractor cannot take
└── WeightsError           weights that are missing, damaged or of another network
"""

from __future__ import annotations


class ExtractorError(Exception):
    """A name, setting or input that an extractor cannot take; the message says what it takes."""


class WeightsError(ExtractorError):
    """Weights that are missing, damaged, or belong to another network."""
