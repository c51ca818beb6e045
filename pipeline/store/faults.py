"""Named points at which a fault test can stop a process; nothing happens unless one is asked for.

``PIPELINE_FAULT=POINT:ACTION[:TOKEN]`` in the environment acts when the process reaches POINT:

``kill``
    end the process at once with SIGKILL, as the kernel or a batch system would;
``enospc``
    raise the error of a full disk;
``stall``
    sleep for an hour, as a dead network file system does.

With TOKEN, the path of a file that does not exist yet, the fault happens once: whoever manages to
create the file acts, every later process goes on.
"""

from __future__ import annotations

import errno
import os
import signal
import time

from pipeline.errors import UsageError

VARIABLE = "PIPELINE_FAULT"
STALL_SECONDS = 3600.0


def reach(point: str) -> None:
    """Act if the environment names this point.

    Raises
    ------
    OSError
        With ``ENOSPC``, for the action ``enospc``.
    UsageError
        When the variable names an action that does not exist.
    """
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    name, _, rest = wanted.partition(":")
    action, _, token = rest.partition(":")
    if name != point or (token and not _first(token)):
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    elif action == "stall":
        time.sleep(STALL_SECONDS)
    else:
        raise UsageError(f"{VARIABLE} is {wanted!r}; expected POINT:kill, :enospc or :stall")


def _first(token: str) -> bool:
    try:
        os.close(os.open(token, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True
