"""Reading lists of the sizes that exist: seconds of one core and peak memory.

Run ``python tests/benchmarks/manifests_lists.py`` (about two minutes), or name some of the lists:
sports1m, kinetics-csv, kinetics-json, generic. Each figure comes from a process of its own:
processor time of the call, and its peak resident memory above that of the imports. The lists are
synthetic: 1,133,158 lines as Sports-1M, 246,534 rows as the Kinetics-400 train list in CSV and in
JSON, 1,000,000 rows of a generic table.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SPORTS_LINES, KINETICS_ROWS, GENERIC_ROWS = 1_133_158, 246_534, 1_000_000
ROOT = Path(__file__).resolve().parents[2]


DRAW = random.Random(1)


def identity() -> str:
    """Return eleven characters, as YouTube's."""
    return "".join(DRAW.choices(LETTERS, k=11))


def write_sports(folder: Path) -> Path:
    """Write a list as Sports-1M's, one or two labels a line."""
    (folder / "labels.txt").write_text("".join(f"sport {k}\n" for k in range(487)))
    path = folder / "all_urls.txt"
    with path.open("w") as file:
        for _ in range(SPORTS_LINES):
            numbers = ",".join(str(DRAW.randrange(487)) for _ in range(DRAW.choice((1, 1, 2))))
            file.write(f"https://www.youtube.com/watch?v={identity()} {numbers}\n")
    return path


def write_kinetics_csv(folder: Path) -> Path:
    """Write a list as the Kinetics-400 train CSV."""
    path = folder / "kinetics400_train.csv"
    with path.open("w") as file:
        file.write("label,youtube_id,time_start,time_end,split,is_cc\n")
        for _ in range(KINETICS_ROWS):
            start = DRAW.randrange(600)
            file.write(f"class {DRAW.randrange(400)},{identity()},{start},{start + 10},train,0\n")
    return path


def write_kinetics_json(folder: Path) -> Path:
    """Write a list as the Kinetics-400 train JSON."""
    entries = {}
    for _ in range(KINETICS_ROWS):
        name, start = identity(), float(DRAW.randrange(600))
        entries[name] = {
            "annotations": {"label": f"class {len(entries) % 400}", "segment": [start, start + 10]},
            "duration": 10.0,
            "subset": "train",
            "url": f"https://www.youtube.com/watch?v={name}",
        }
    path = folder / "kinetics400_train.json"
    path.write_text(json.dumps(entries))
    return path


def write_generic(folder: Path) -> Path:
    """Write a generic table with times in fractions of seconds."""
    path = folder / "million.csv"
    with path.open("w") as file:
        file.write("video,start,end,label,split,group,url\n")
        for k in range(GENERIC_ROWS):
            file.write(f"folder/{identity()}.mp4,{k % 60}.5,{k % 60 + 12.25},class {k % 500},,,\n")
    return path


LISTS = {
    "sports1m": write_sports,
    "kinetics-csv": write_kinetics_csv,
    "kinetics-json": write_kinetics_json,
    "generic": write_generic,
}


def measure(call: str, path: Path) -> tuple[int, float, float]:
    """Return rows, seconds of processor time and mebibytes; runs in a process of its own."""
    import manifests

    before = peak_mebibytes()
    start = time.process_time()
    if call == "stream":
        numbered = enumerate(manifests.stream(path), start=1)
        rows = deque(numbered, maxlen=1)[0][0]
    elif call == "load":
        rows = len(manifests.load(path))
    else:
        rows = manifests.inspect(path).segments
    seconds = time.process_time() - start
    return rows, seconds, peak_mebibytes() - before


def peak_mebibytes() -> float:
    """Return the peak resident memory of this process (ru_maxrss would begin at its parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main(wanted: list[str]) -> None:
    """Print one line for each list and call."""
    print(f"{'list':14s} {'call':8s} {'rows':>10s} {'CPU s':>8s} {'MiB above imports':>18s}")
    for title in wanted or LISTS:
        with tempfile.TemporaryDirectory() as name:
            path = LISTS[title](Path(name))
            for call in ("stream", "load", "inspect"):
                command = [sys.executable, __file__, "--measure", call, str(path)]
                rows, seconds, mebibytes = json.loads(subprocess.check_output(command, cwd=ROOT))
                print(f"{title:14s} {call:8s} {rows:10,d} {seconds:8.2f} {mebibytes:18.1f}")


if __name__ == "__main__":
    if "--measure" in sys.argv:
        sys.path.insert(0, str(ROOT))
        print(json.dumps(measure(sys.argv[-2], Path(sys.argv[-1]))))
    else:
        main(sys.argv[1:])
