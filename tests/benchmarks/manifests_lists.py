"""Reading lists of the sizes that exist: seconds of one core and peak memory.

Run ``python tests/benchmarks/manifests_lists.py`` (some minutes). Each figure comes from a process
of its own: processor time of the call, and its peak resident memory above that of the imports. The
lists are synthetic: 1,133,158 lines as Sports-1M, 246,534 rows as the Kinetics-400 train list in
CSV and in JSON, 1,000,000 rows of a generic table.
"""

import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

REPEATS = 3
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
SPORTS_LINES, KINETICS_ROWS, GENERIC_ROWS = 1_133_158, 246_534, 1_000_000
ROOT = Path(__file__).resolve().parents[2]


def write_lists(folder: Path) -> dict[str, Path]:
    """Write the synthetic lists; return them by name."""
    draw = random.Random(1)

    def identity() -> str:
        return "".join(draw.choices(LETTERS, k=11))

    (folder / "labels.txt").write_text("".join(f"sport {k}\n" for k in range(487)))
    sports = folder / "all_urls.txt"
    with sports.open("w") as file:
        for _ in range(SPORTS_LINES):
            numbers = ",".join(str(draw.randrange(487)) for _ in range(draw.choice((1, 1, 2))))
            file.write(f"https://www.youtube.com/watch?v={identity()} {numbers}\n")
    table, entries = folder / "kinetics400_train.csv", {}
    with table.open("w") as file:
        file.write("label,youtube_id,time_start,time_end,split,is_cc\n")
        for _ in range(KINETICS_ROWS):
            name, label, start = identity(), f"class {draw.randrange(400)}", draw.randrange(600)
            file.write(f"{label},{name},{start},{start + 10},train,0\n")
            entries[name] = {
                "annotations": {"label": label, "segment": [float(start), start + 10.0]},
                "duration": 10.0,
                "subset": "train",
                "url": f"https://www.youtube.com/watch?v={name}",
            }
    document = folder / "kinetics400_train.json"
    document.write_text(json.dumps(entries))
    generic = folder / "million.csv"
    with generic.open("w") as file:
        file.write("video,start,end,label,split,group,url\n")
        for k in range(GENERIC_ROWS):
            file.write(f"folder/{identity()}.mp4,{k % 60}.5,{k % 60 + 12.25},class {k % 500},,,\n")
    return {"Sports-1M": sports, "K400 CSV": table, "K400 JSON": document, "generic": generic}


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


def main() -> None:
    """Print one line for each list and call."""
    with tempfile.TemporaryDirectory() as name:
        lists = write_lists(Path(name))
        print(f"{'list':10s} {'call':8s} {'rows':>10s} {'CPU s':>8s} {'MiB above imports':>18s}")
        for title, path in lists.items():
            for call in ("stream", "load", "inspect"):
                command = [sys.executable, __file__, call, str(path)]
                found = [
                    json.loads(subprocess.check_output(command, cwd=ROOT)) for _ in range(REPEATS)
                ]
                rows = found[0][0]
                seconds, mebibytes = (statistics.median(f[k] for f in found) for k in (1, 2))
                print(f"{title:10s} {call:8s} {rows:10,d} {seconds:8.2f} {mebibytes:18.1f}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        sys.path.insert(0, str(ROOT))
        print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]))))
    else:
        main()
