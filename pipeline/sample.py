"""A small labelled set of real pixels, made offline: photographs moved by known motions.

The photographs ship inside scikit-image (nothing is downloaded). Each is moved in five ways, the
five classes; the camera moves, so the picture moves the other way:

==========  ==========================================================
pan left    the picture moves right, 1 to 2 px a frame
pan right   the picture moves left
zoom in     it grows about the centre, up to 0.6 % a frame
zoom out    it shrinks
rotate      it turns clockwise about the centre, up to half a degree a frame
==========  ==========================================================

**One frame does not tell the class, the motion does.** A frame is seen through four numbers: place,
turn, size, and position along a path. Video ``k`` of every class draws the same numbers; its class
only lets one of them sweep its range, where the other classes hold it at a value drawn uniformly
from the same range. So a frame taken at random has the same distribution in every class, `pan
right` is `pan left` played backwards picture by picture, and the photographs are shared evenly. A
model that ignores order can tell at most three groups apart (pans, zooms, turns).

**Flow needs texture.** So at most a tenth of each photograph is flat: grey deviates by less than 2
levels in a square of 16 px. Half of scikit-image's rocket is bare sky, where TV-L1 sees next to no
motion (of its zooms of 0.44 px it found 0.20 px): it is not among the photographs.

**The flow is known.** A class moves every point ``p`` of a frame (pixels, the centre of the first
pixel at 0.5) to ``step @ (x, y, 1)`` in the next, the same matrix all along: see `Video.step`, and
``motions.json`` beside the videos.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from manifests import Segment, write_generic, write_kinetics
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

SAMPLE_VERSION = 2  # goes up when the pixels change: other pixels, other ids
LABELS = ("pan left", "pan right", "zoom in", "zoom out", "rotate")
PHOTOGRAPHS = (
    "chelsea.png", "coffee.png", "gravel.png", "astronaut.png", "motorcycle_left.png",
    "hubble_deep_field.jpg", "ihc.png", "grass.png", "coins.png",
)  # fmt: skip
VALIDATION_EVERY = 3  # of three photographs the second is kept for validation
WIDTH_PX, HEIGHT_PX = 320, 240
PHOTOGRAPH_PX = (508, 356)  # holds the frame at its largest, turned, at both ends of its path
PATH_PX = 40.0  # half of the longest pan, in pixels of the photograph
LOG_SIZE = 0.15  # half of the widest zoom, as a logarithm
TURN_RADIANS = np.deg2rad(12.0)  # half of the widest turn
LEAST_SWEEP = 0.7  # of the ranges above, so that speeds differ between videos
CONSTANT_QUALITY = "17"  # x264 crf: visually lossless

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    """What to make.

    Attributes
    ----------
    per_class : int
        Videos of each class, at least 1.
    seconds : int
        Length of each, 1 to 60.
    fps : int
        Frames a second.
    seed : int
        Equal seeds give equal files.
    """

    per_class: int = 2
    seconds: int = 2
    fps: int = 25
    seed: int = 0

    def __post_init__(self) -> None:
        if self.per_class < 1 or not 1 <= self.seconds <= 60 or not 1 <= self.fps <= 120:
            raise UsageError(
                f"{self.per_class} videos of {self.seconds} s at {self.fps} fps cannot be made; "
                "ask for at least 1 video, 1 to 60 s, 1 to 120 fps"
            )

    @property
    def frames(self) -> int:
        """Frames of one video."""
        return self.seconds * self.fps


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One moving photograph.

    Attributes
    ----------
    identity : str
        Eleven characters, as YouTube's.
    label : str
        One of `LABELS`.
    photograph : str
        File name in scikit-image.
    place : tuple of float
        Where the frame stands in the room its photograph leaves, each -1 to 1.
    sweep : float
        Share of the full range that is swept, `LEAST_SWEEP` to 1.
    held : tuple of float
        Path, size and turn where they do not move, each -1 to 1.
    frames : int
        Length.
    """

    identity: str
    label: str
    photograph: str
    place: tuple[float, float]
    sweep: float
    held: tuple[float, float, float]
    frames: int

    def view(self, frame: int) -> Matrix:
        """Return the 2 x 3 matrix from a frame's points to the photograph's, about both centres."""
        along = 2 * frame / max(1, self.frames - 1) - 1
        path, size, turn = self.held
        if self.label.startswith("pan"):
            path = along if self.label == "pan right" else -along
        elif self.label.startswith("zoom"):
            size = along if self.label == "zoom in" else -along
        else:
            turn = along
        scale = np.exp(-size * self.sweep * LOG_SIZE)
        angle = -turn * self.sweep * TURN_RADIANS
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        return np.array([[cos, -sin, path * self.sweep * PATH_PX], [sin, cos, 0.0]])

    def step(self) -> Matrix:
        """Return the 2 x 3 matrix from a point (pixels) to its place in the next frame."""
        now, following = (np.vstack([self.view(frame), [0, 0, 1]]) for frame in (0, 1))
        centre = np.array([[1, 0, WIDTH_PX / 2], [0, 1, HEIGHT_PX / 2], [0, 0, 1]])
        moved: Matrix = centre @ np.linalg.inv(following) @ now @ np.linalg.inv(centre)
        return moved[:2]

    def flow(self) -> NDArray[np.float32]:
        """Return the true flow from any frame to the next, (H, W, 2), x and y in pixels."""
        y, x = np.mgrid[0:HEIGHT_PX, 0:WIDTH_PX] + 0.5
        points = np.stack([x, y, np.ones_like(x)], axis=-1)  # H x W x 3
        flow: NDArray[np.float32] = (points @ self.step().T - points[..., :2]).astype(np.float32)
        return flow  # H x W x 2


def plan(options: SampleOptions) -> list[Video]:
    """Return the videos of a sample, class by class: pure, the same for the same options."""
    videos = []
    for label in LABELS:
        for number in range(options.per_class):
            draws = np.random.default_rng([options.seed, number])  # not of the class: see above
            place, held = draws.uniform(-1, 1, 2), draws.uniform(-1, 1, 3)
            videos.append(
                Video(
                    identity=_identity(label, number, options),
                    label=label,
                    photograph=PHOTOGRAPHS[number % len(PHOTOGRAPHS)],
                    place=(float(place[0]), float(place[1])),
                    sweep=float(draws.uniform(LEAST_SWEEP, 1)),
                    held=(float(held[0]), float(held[1]), float(held[2])),
                    frames=options.frames,
                )
            )
    return videos


def _identity(label: str, number: int, options: SampleOptions) -> str:
    text = f"{SAMPLE_VERSION} {label} {number} {options}"
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())[:11].decode()


@lru_cache(maxsize=len(PHOTOGRAPHS))
def photograph(name: str) -> Image:
    """Return a photograph of scikit-image, RGB, scaled to just cover `PHOTOGRAPH_PX`.

    Raises
    ------
    UsageError
        When scikit-image is absent or does not hold the file.
    """
    from PIL import Image

    found = find_spec("skimage")
    path = Path(found.origin).parent / "data" / name if found and found.origin else Path(name)
    if not path.is_file():
        raise UsageError(f"{path}: no such photograph; install scikit-image 0.22 or later")
    with Image.open(path) as file:
        picture = file.convert("RGB")
    factor = max(PHOTOGRAPH_PX[0] / picture.width, PHOTOGRAPH_PX[1] / picture.height)
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.LANCZOS)


def render(video: Video) -> Iterator[NDArray[np.uint8]]:
    """Yield the frames of a video, (H, W, 3) RGB: bicubic at exact sub-pixel places."""
    from PIL import Image

    picture = photograph(video.photograph)
    room = ((picture.width - PHOTOGRAPH_PX[0]) / 2, (picture.height - PHOTOGRAPH_PX[1]) / 2)
    middle = np.array(
        [
            picture.width / 2 + video.place[0] * room[0],
            picture.height / 2 + video.place[1] * room[1],
        ]
    )
    centre = np.array([WIDTH_PX / 2, HEIGHT_PX / 2])
    for frame in range(video.frames):
        view = video.view(frame)
        offset = view[:, 2] + middle - view[:, :2] @ centre
        (a, b), (d, e) = view[:, :2].tolist()
        seen = picture.transform(
            (WIDTH_PX, HEIGHT_PX),
            Image.Transform.AFFINE,
            (a, b, float(offset[0]), d, e, float(offset[1])),
            Image.Resampling.BICUBIC,
        )
        yield np.asarray(seen)


def encode(path: Path, frames: Iterable[NDArray[np.uint8]], fps: int) -> None:
    """Write frames, (H, W, 3) RGB, as H.264 in MP4; the file appears whole or not at all."""
    import av

    unfinished = path.with_name(f".{path.name}.part")
    try:
        with av.open(str(unfinished), "w", format="mp4") as container:
            stream: Any = container.add_stream("libx264", rate=Fraction(fps))
            stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
            stream.options = {"crf": CONSTANT_QUALITY, "threads": "1"}  # one thread: equal bytes
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def segments(videos: Iterable[Video], options: SampleOptions) -> list[Segment]:
    """Return the manifest rows: the photograph is the group, and groups do not cross splits."""
    rows = []
    for video in videos:
        held_out = PHOTOGRAPHS.index(video.photograph) % VALIDATION_EVERY == 1
        rows.append(
            Segment(
                video=video.identity,
                end_ms=1000 * options.seconds,
                labels=(video.label,),
                split="val" if held_out else "train",
                group=Path(video.photograph).stem,
            )
        )
    return rows


def file_name(segment: Segment) -> str:
    """Return the name that Kinetics mirrors give to a trimmed segment: ``ID_000000_000002.mp4``."""
    return f"{segment.key}.mp4"


def make_sample(folder: Path, options: SampleOptions) -> Iterator[Path]:
    """Make the sample, yielding each video's path as it is finished; videos there are kept.

    Writes ``videos/ID_000000_000002.mp4`` (trimmed segments, named as the Kinetics mirrors do),
    ``sample.csv`` (Kinetics columns), ``sample_groups.csv`` (the same with the photograph
    as group) and ``motions.json`` (photograph and true motion of every video).

    Parameters
    ----------
    folder : Path
        Where; made when absent.
    options : SampleOptions
        How many, how long, and the seed.

    Raises
    ------
    UsageError
        When the photographs are not installed.
    """
    videos = plan(options)
    rows = segments(videos, options)
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    write_kinetics(folder / "sample.csv", rows)
    write_generic(folder / "sample_groups.csv", rows)
    truth = {
        video.identity: {
            "label": video.label,
            "photograph": video.photograph,
            "step": video.step().tolist(),
        }
        for video in videos
    }
    (folder / "motions.json").write_text(json.dumps(truth, indent=1) + "\n")
    for video, row in zip(videos, rows, strict=True):
        path = folder / "videos" / file_name(row)
        if not path.exists():
            encode(path, render(video), options.fps)
        yield path
