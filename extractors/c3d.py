"""C3D: eight 3x3x3 convolutions over 16 frames, trained on Sports-1M.

Tran et al., *Learning Spatiotemporal Features with 3D Convolutional Networks*, arXiv 1412.0767,
exactly as the authors' Caffe runs it: every decoded frame at the video's own rate, resized to
128x171 whatever its aspect, BGR 0..255 minus the training mean, centre crop 112; pooling rounds
up, so pool5 sees 7x7 and gives 4x4 with padding at the right and bottom only (the public PyTorch
ports pad all around and give other numbers); ``fc6`` and ``fc7`` are taken after their ReLU.

``mean=channels`` subtracts the mean cube's average per channel; ``mean=cube`` (the authors' file
``sport1m_train16_128_mean.binaryproto`` in the weights folder) or ``mean=PATH`` subtracts the cube
itself, each pixel at its own place before the crop. These are different recipes.

Checkpoints are recognised by their keys. DavideA/c3d-pytorch and pytorch-video-recognition by
jfzhang95 hold the Caffe weights (BGR). mmaction2 trained on RGB with its own mean, its own resize
and a symmetric pool5: that is another extractor, ``c3d-mmaction2``. The paper's descriptor of a
video is the mean of its ``fc6`` rows at preset ``16/8``, divided by its Euclidean norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor, nn

from extractors import _caffe, _layouts, _weights
from extractors._errors import ExtractorError, WeightsError
from extractors._spec import Geometry, Normalisation, Sampling, Spec, Weights

WINDOW_FRAMES = 16
SPORTS_1M_CLASSES = 487
UCF_101_CLASSES = 101
FULLY_CONNECTED = 4096
FLATTENED = 512 * 1 * 4 * 4
CUBE_SHAPE = (3, 16, 128, 171)

# name: output channels, and what is pooled (frames, height, width) after it
CONVOLUTIONS: dict[str, tuple[int, tuple[int, int, int] | None]] = {
    "conv1a": (64, (1, 2, 2)),
    "conv2a": (128, (2, 2, 2)),
    "conv3a": (256, None),
    "conv3b": (256, (2, 2, 2)),
    "conv4a": (512, None),
    "conv4b": (512, (2, 2, 2)),
    "conv5a": (512, None),
    "conv5b": (512, (2, 2, 2)),
}

MEAN_CUBE = "sport1m_train16_128_mean.binaryproto"
MEAN_CUBE_FROM = "https://github.com/facebookarchive/C3D (CC-BY-NC-3.0)"

CAFFE = Spec(
    name="c3d",
    modality="rgb",
    sampling=Sampling(fps=None, window=WINDOW_FRAMES, stride=16),
    geometry=Geometry(size_px=(128, 171), crop_px=112),
    normalisation=Normalisation(channels="bgr", mean=(90.25, 97.66, 101.41)),
    layer="fc6",
    layers={"fc6": FULLY_CONNECTED, "fc7": FULLY_CONNECTED, "logits": SPORTS_1M_CLASSES},
    weights=(
        Weights(
            name="sports1m",
            file="c3d.pickle",
            url="http://imagelab.ing.unimore.it/files/c3d_pytorch/c3d.pickle",
            licence="CC-BY-NC-3.0",
            trained_on="Sports-1M",
            classes="sports1m",
        ),
        Weights(
            name="jfzhang95",
            file="c3d-pretrained.pth",
            url="https://github.com/jfzhang95/pytorch-video-recognition",
            licence="CC-BY-NC-3.0",
            trained_on="Sports-1M (no logits)",
        ),
    ),
    options={"mean": "channels", "classes": str(SPORTS_1M_CLASSES)},
    file_options={"mean": ("channels", "cube")},
    presets={
        "16/16": {"window": "16", "stride": "16"},
        "16/8": {"window": "16", "stride": "8"},
    },
    batch_windows=4,
    paper="arXiv 1412.0767",
    summary="3D ConvNet on 16 frames at native fps, as in Caffe; presets 16/16, 16/8",
)

MMACTION2 = replace(
    CAFFE,
    name="c3d-mmaction2",
    geometry=Geometry(short_side_px=128, crop_px=112),
    normalisation=Normalisation(mean=(104.0, 117.0, 128.0)),
    weights=(
        Weights(
            name="sports1m",
            file="c3d_sports1m_pretrain_20201016-dcc47ddc.pth",
            sha256="dcc47ddc",
            url="https://download.openmmlab.com/mmaction/recognition/c3d/"
            "c3d_sports1m_pretrain_20201016-dcc47ddc.pth",
            licence="Apache-2.0",
            trained_on="Sports-1M (no logits)",
        ),
    ),
    layers={"fc6": FULLY_CONNECTED, "fc7": FULLY_CONNECTED, "logits": UCF_101_CLASSES},
    options={"classes": str(UCF_101_CLASSES)},
    file_options={},
    summary="mmaction2's C3D: RGB, its own mean, aspect kept, symmetric pool5",
)

SPECS = (CAFFE, MMACTION2)


class C3D(nn.Module):
    """The network; 79,991,015 parameters with 487 classes.

    Parameters
    ----------
    classes : int
        Columns of the logits.
    layer : {"fc6", "fc7", "logits"}
        What a row is; ``fc6`` and ``fc7`` after their ReLU.
    symmetric_pool5 : bool
        Pad pool5 by one on all four sides, as mmaction2 does, instead of at right and bottom.
    """

    def __init__(self, classes: int, layer: str, symmetric_pool5: bool = False) -> None:
        super().__init__()
        self.features = nn.Sequential()
        channels = 3
        for name, (width, pooled) in CONVOLUTIONS.items():
            self.features.add_module(name, nn.Conv3d(channels, width, 3, padding=1))
            self.features.add_module(f"relu{name[4:]}", nn.ReLU(inplace=True))
            if pooled is not None:
                self.features.add_module(f"pool{name[4]}", nn.MaxPool3d(pooled, ceil_mode=True))
            channels = width
        if symmetric_pool5:
            self.features.pool5 = nn.MaxPool3d((2, 2, 2), padding=(0, 1, 1))
        self.fc6 = nn.Linear(FLATTENED, FULLY_CONNECTED)
        self.fc7 = nn.Linear(FULLY_CONNECTED, FULLY_CONNECTED)
        self.fc8 = nn.Linear(FULLY_CONNECTED, classes)
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, 16, 112, 112) to (N, 4096), or to (N, classes) for logits."""
        # N x 3 x 16 x 112 x 112
        # pool1: N x 64 x 16 x 56 x 56     pool2: N x 128 x 8 x 28 x 28
        # pool3: N x 256 x 4 x 14 x 14     pool4: N x 512 x 2 x 7 x 7
        x = self.features(x).flatten(1)  # N x 512 x 1 x 4 x 4, as N x 8192
        x = self.fc6(x).relu()  # N x 4096
        if self.layer == "fc6":
            return x
        x = self.fc7(x).relu()  # N x 4096
        if self.layer == "fc7":
            return x
        logits: Tensor = self.fc8(x)
        return logits


def network(spec: Spec) -> nn.Module:
    """Return the untrained network of `spec`.

    Raises
    ------
    ExtractorError
        When a window is not of 16 frames, which the fully connected layers fix.
    """
    if spec.sampling.mode == "whole" or spec.sampling.window != WINDOW_FRAMES:
        raise ExtractorError(
            f"{spec.name}: a window must have {WINDOW_FRAMES} frames, got "
            f"mode={spec.sampling.mode} window={spec.sampling.window}"
        )
    return C3D(int(spec.options["classes"]), spec.layer, spec.name == MMACTION2.name)


def mean_cube(spec: Spec, weights_dir: Path | None) -> Path | None:
    """Return the file of the mean cube that `spec` asks for, or None for per-channel means."""
    choice = spec.options.get("mean", "channels")
    if choice == "channels":
        return None
    if choice == "cube":
        path = (weights_dir or _weights.default_folder()) / MEAN_CUBE
        if not path.is_file():
            raise WeightsError(
                f"{spec.name}: {MEAN_CUBE} is not in {path.parent}; take it from {MEAN_CUBE_FROM} "
                f"and put it there, or give its path with --set {spec.name}.mean=PATH"
            )
        return path
    path = Path(choice)
    if not path.is_file():
        raise WeightsError(
            f"{spec.name}.mean is {choice!r}, expected channels, cube or the path of a cube"
        )
    return path


def read_mean_cube(path: Path) -> Tensor:
    """Return a mean cube (3, 16, 128, 171), channels in BGR order.

    Raises
    ------
    WeightsError
        When the file holds no such cube.
    """
    cube = _caffe.read_blob(path)
    if tuple(cube.shape) != (1, *CUBE_SHAPE):
        raise WeightsError(f"{path}: its blob is {tuple(cube.shape)}, expected {(1, *CUBE_SHAPE)}")
    return cube[0]


def _layout(names: Mapping[str, str]) -> dict[str, str]:
    return {
        f"{own}.{part}": f"{theirs}.{part}"
        for own, theirs in names.items()
        for part in ("weight", "bias")
    }


def _features(template: str, places: Mapping[str, object]) -> dict[str, str]:
    return {f"features.{name}": template.format(place) for name, place in places.items()}


FC = {"fc6": "fc6", "fc7": "fc7", "fc8": "fc8"}
DAVIDEA = _layout(
    {f"features.{n}": n.removesuffix("a") if n[4] in "12" else n for n in CONVOLUTIONS} | FC
)
JFZHANG95 = _layout(
    _features("features.{}", dict(zip(CONVOLUTIONS, (0, 3, 6, 8, 11, 13, 16, 18), strict=True)))
    | {"fc6": "classifier.0", "fc7": "classifier.3", "fc8": "classifier.6"}
)
MMACTION2_LAYOUT = _layout(
    _features("{}.conv", {name: name for name in CONVOLUTIONS})
    | {"fc6": "fc6", "fc7": "fc7", "fc8": "cls_head.fc_cls"}
)
CAFFE_LAYOUTS = {"DavideA": DAVIDEA, "jfzhang95": JFZHANG95}


def load(net: nn.Module, spec: Spec, state: Mapping[str, Tensor]) -> None:
    """Put a checkpoint of a known layout into `net`.

    Raises
    ------
    WeightsError
        When the keys are those of no layout, not exactly those of theirs, of a network trained
        on the other channel order, or without the logits that were asked for.
    """
    _weights.load_strictly(net, _own(net, spec, state), spec.name)


def _own(net: nn.Module, spec: Spec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    plain = {key.removeprefix("backbone."): tensor for key, tensor in state.items()}
    if "features.conv1a.weight" in plain:
        return dict(state)
    of_mmaction2 = "conv1a.conv.weight" in plain
    if of_mmaction2 != (spec.name == MMACTION2.name):
        other = MMACTION2.name if of_mmaction2 else CAFFE.name
        known = any(layout["features.conv1a.weight"] in plain for layout in LAYOUTS.values())
        if known:
            raise WeightsError(
                f"{spec.name}: this checkpoint was trained on the other channel order and mean; "
                f"use the extractor {other}"
            )
    for name, layout in LAYOUTS.items():
        if layout["features.conv1a.weight"] in plain:
            return _translated(net, spec, plain, name)
    raise _layouts.unknown(state, spec.name, LAYOUTS)


LAYOUTS = {**CAFFE_LAYOUTS, "mmaction2": MMACTION2_LAYOUT}


def _translated(
    net: nn.Module, spec: Spec, plain: Mapping[str, Tensor], name: str
) -> dict[str, Tensor]:
    """Translate one layout; a checkpoint without logits serves the layers before them."""
    layout = LAYOUTS[name]
    title = f"{spec.name} ({name} layout)"
    if layout["fc8.weight"] in plain:
        return _layouts.translate(plain, layout, title)
    if spec.layer == "logits":
        raise WeightsError(f"{title}: the checkpoint has no logits; choose layer fc6 or fc7")
    shorter = {own: theirs for own, theirs in layout.items() if not own.startswith("fc8.")}
    untrained = {key: net.state_dict()[key] for key in ("fc8.weight", "fc8.bias")}
    return {**_layouts.translate(plain, shorter, title), **untrained}
