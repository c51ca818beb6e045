"""Peak memory of a process, as Linux accounts for it."""

from pathlib import Path


def peak_resident_bytes() -> int:
    """Peak resident memory of this process since it began to run its own program.

    ``getrusage`` is no use here: its maximum is inherited from the parent across ``exec``.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")
