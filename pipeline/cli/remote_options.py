"""Flags of every command that may ask a server for videos: how it is asked, and how much is taken.

They are declared once, so that ``fetch`` and ``extract`` treat servers alike.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

GIBIBYTE = 1 << 30

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True, resolve_path=True)
_OPTIONS = (
    click.option("--per-host", type=click.IntRange(1), default=8, show_default=True,
                 help="Requests to one server at a time, from one machine."),
    click.option("--rate", type=click.FloatRange(0, min_open=True), default=10.0,
                 show_default=True,
                 help="Requests per second to one server, from one machine; YouTube has a lower "
                 "one of its own."),
    click.option("--attempts", type=click.IntRange(1), default=4, show_default=True,
                 help="Tries of a download within this run, for what may pass."),
    click.option("--max-bytes", type=click.IntRange(1), default=4 * GIBIBYTE, show_default=True,
                 help="Largest download that is accepted."),
    click.option("--deadline", type=click.FloatRange(1), default=1800.0, show_default=True,
                 help="Most seconds for one download."),
    click.option("--cookies", type=_FILE,
                 help="File of cookies, Netscape format; never shown."),
    click.option("--proxy", type=_FILE,
                 help="File that holds a proxy's address; never shown."),
    click.option("--allow-private", is_flag=True,
                 help="Allow servers on this machine and on private networks."),
)  # fmt: skip


def remote_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def source_settings(flags: dict[str, Any]) -> dict[str, Any]:
    """Return what the flags say, as `pipeline.sources.SourceOptions` names it."""
    return {
        "max_bytes": flags["max_bytes"],
        "deadline_seconds": flags["deadline"],
        "allow_private": flags["allow_private"],
        "requests_per_second": flags["rate"],
        "requests_at_a_time": flags["per_host"],
        "attempts": flags["attempts"],
        "cookies": flags["cookies"],
        "proxy": flags["proxy"],
    }
