"""Errors of the manifest readers.

ManifestError          the list as a whole cannot be used (exit status 2)
└── RowError           one row cannot be used; collected as a `Reject` unless reading is strict
"""

from __future__ import annotations


class ManifestError(Exception):
    """A manifest that cannot be used at all.

    Parameters
    ----------
    where : str
        File, or ``file:line``.
    found : str
        What was read there, and what was expected instead.
    remedy : str
        What the user can do.
    """

    def __init__(self, where: str, found: str, remedy: str) -> None:
        super().__init__(where, found, remedy)
        self.where, self.found, self.remedy = where, found, remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.found}; {self.remedy}"


class RowError(ManifestError):
    """One row that cannot be used."""
