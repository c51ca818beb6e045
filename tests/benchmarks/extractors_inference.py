"""What each inference measure buys on this machine, as ratios against plain eager.

Run from the checkout: ``python -m tests.benchmarks.extractors_inference [CASE ...] [--threads 2]
[--repeats 3] [--no-compile]``. Plain eager is what the public ports do: the network as it was
trained (batch normalisation apart, default memory layout), padded with zeros by copying, torch's
own convolution and pooling, one window at a time. Variants are interleaved within each repeat and
medians are compared, in wall time and, for a machine that does other things too, in CPU time; the
largest difference of the rows to plain eager is shown beside each, relative to the largest value.
"""

import argparse
import statistics
import time

import numpy as np
import torch
from torch.nn import functional

import extractors
from extractors import _extractor, _layers, _preprocess

CASES = {
    "efficientnet-lite0": {"batch": "8"},
    "efficientnet-lite0-inflated": {"batch": "1"},
    "c3d": {"weights": "random", "batch": "1"},
    "i3d-rgb": {"weights": "random", "batch": "1"},
    "i3d-rgb 64/16": {"weights": "random", "batch": "1", "preset": "64/8", "stride": "16"},
    "i3d-rgb 64/8": {"weights": "random", "batch": "1", "preset": "64/8"},
}
BOUND = 1e-5


def video(spec, frames):
    generator = np.random.default_rng(0)
    height, width = spec.geometry.resized(256, 340)
    shape = (frames, height, width, 3)
    return list(generator.integers(0, 256, shape, dtype=np.uint8))


class PortedConv(torch.nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        conv = self.conv
        x = _layers.pad_same(x, conv.kernel_size, conv.stride)
        return functional.conv3d(x, conv.weight, conv.bias, conv.stride, groups=conv.groups)


class PortedPool(torch.nn.Module):
    def __init__(self, pool):
        super().__init__()
        self.pool = pool

    def forward(self, x):
        x = _layers.pad_same(x, self.pool.window, self.pool.step)
        return functional.max_pool3d(x, self.pool.window, self.pool.step)


def as_ported(net):
    """Let 3D layers with SAME padding do what piergiaj/pytorch-i3d and hassony2's port do."""
    ports = {_layers.SameConv3d: PortedConv, _layers.SameMaxPool3d: PortedPool}
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if type(child) in ports and not child.__dict__.get("hold_edges"):
                setattr(module, name, ports[type(child)](child))
    return net


class Plain:
    """The trained network, not folded, in its default layout."""

    def __init__(self, spec, measure=lambda net: net):
        module = extractors._resolve(spec.name)[0]
        self.net = measure(_extractor.network_with_weights(module, spec, None))
        self.spec = spec

    def __call__(self, windows):
        cpu = torch.device("cpu")
        with torch.inference_mode():
            x = torch.stack([_preprocess.to_tensors(w, self.spec, cpu)[0] for w in windows])
            rows = self.net(x).numpy()
        return rows.reshape(len(windows), -1, self.spec.dim)


def folded(net):
    _layers.fold_batch_norms(net)
    return net


def variants(spec, with_compile):
    made = {
        "plain eager": Plain(spec, as_ported),
        "folded": Plain(spec, folded),
        "ours": extractors.build(spec),
    }
    if with_compile:
        made["ours, --compile"] = extractors.build(spec, compile=True)
    return made


def calls(spec, repeats):
    """Return the windows of each call, as a video of `repeats` strides gives them."""
    length, stride, batch = spec.sampling.window, spec.sampling.stride, spec.batch_windows
    frames = video(spec, length + stride * ((repeats + 1) * batch - 1))
    starts = range(0, len(frames) - length + 1, stride)
    windows = [frames[start : start + length] for start in starts]
    return [windows[k : k + batch] for k in range(0, len(windows), batch)]


def measure(case, repeats, with_compile):
    settings = CASES[case]
    spec = extractors.spec(case.partition(" ")[0]).with_settings(settings)
    runs = variants(spec, with_compile)
    work = calls(spec, repeats)
    rows = {name: run(work[0]) for name, run in runs.items()}  # warm-up, and the first window
    seconds = {name: [] for name in runs}
    for windows in work[1:]:
        for name, run in runs.items():
            start = time.perf_counter(), time.process_time()
            rows[name] = run(windows)
            taken = time.perf_counter() - start[0], time.process_time() - start[1]
            seconds[name].append(taken)
    report(case, spec, seconds, rows)


def report(case, spec, seconds, rows):
    plain = seconds["plain eager"]
    expected = rows["plain eager"]
    print(f"{case}: {spec.batch_windows} window(s) of {spec.sampling.window} frames a call")
    for name, taken in seconds.items():
        pairs = list(zip(plain, taken, strict=True))
        wall, cpu = (statistics.median(p[k] / t[k] for p, t in pairs) for k in (0, 1))
        milliseconds = 1000 * statistics.median(t[0] for t in taken)
        error = np.abs(rows[name] - expected).max() / np.abs(expected).max()
        verdict = "" if error < BOUND else "  BEYOND 1e-5"
        print(
            f"  {name:<16}{milliseconds:9.0f} ms   x{wall:5.2f} (x{cpu:5.2f} in CPU time)"
            f"   differs by {error:.1e}{verdict}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-compile", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for case in given.cases:
        measure(case, given.repeats, not given.no_compile)


if __name__ == "__main__":
    main()
