import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.errors import DiskFull, TooLarge
from pipeline.sources._scratch import Scratch, release


def test_room_is_given_back(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, 100)
    first = scratch.reserve(60, extension=".mp4", wait_seconds=0)
    first.write_bytes(b"x")
    assert scratch.used_bytes() == 60
    with pytest.raises(DiskFull, match="scratch-bytes"):
        scratch.reserve(41, extension=".mp4", wait_seconds=0)
    release(first)
    assert not first.exists()
    assert scratch.used_bytes() == 0
    assert scratch.reserve(100, extension=".mp4", wait_seconds=0).suffix == ".mp4"
    scratch.close()
    assert not scratch.own.exists()


def test_what_never_fits_is_too_large(tmp_path: Path) -> None:
    with pytest.raises(TooLarge, match="budget of 100"):
        Scratch(tmp_path, 100).reserve(101, extension=".mp4", wait_seconds=9)


def test_one_waits_for_the_other(tmp_path: Path) -> None:
    one, two = Scratch(tmp_path, 100), Scratch(tmp_path, 100)
    path = one.reserve(80, extension="", wait_seconds=0)
    timer = threading.Timer(0.3, release, [path])
    timer.start()
    started = time.monotonic()
    two.reserve(80, extension="", wait_seconds=5)
    assert 0.25 < time.monotonic() - started < 3
    timer.join()


def test_what_a_killed_process_held_comes_free(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from pipeline.sources._scratch import Scratch\n"
        "Scratch(Path(sys.argv[1]), 100).reserve(90, extension='.mp4', wait_seconds=0)"
        ".write_bytes(b'x')\nprint('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        scratch = Scratch(tmp_path, 100)
        with pytest.raises(DiskFull):
            scratch.reserve(20, extension="", wait_seconds=0)
        os.kill(child.pid, signal.SIGKILL)
    scratch.reserve(20, extension="", wait_seconds=0)
    assert len(list(tmp_path.glob("process-*"))) == 1


def test_nothing_is_left_of_a_process_that_ended(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from pipeline.sources._scratch import Scratch\n"
        "own = Scratch(Path(sys.argv[1]), 100)\n"
        "own.reserve(90, extension='.mp4', wait_seconds=0).write_bytes(b'x')\n"
        "child = os.fork()\n"
        "if not child: sys.exit()\n"
        "os.waitpid(child, 0)\n"
        "print(len(list(own.own.iterdir())))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "3\n", "a fork that ends takes nothing of its parent's with it"
    assert not list(tmp_path.glob("process-*"))
