"""Inception-v1 on pictures, with TensorFlow's padding: the ConvNet of ConvNet+LSTM, I3D's parent.

GoogLeNet (Szegedy et al., arXiv 1409.4842) with batch normalisation, as TensorFlow-Slim trains it
on ImageNet. Carreira & Zisserman (arXiv 1705.07750) put an LSTM on its last average pool, one row
per frame at 5 frames per second, and inflate it into I3D. torchvision's ``googlenet`` pads
otherwise and is another network; it is at hand as ``torchvision:googlenet``.

The checkpoint (``inception_v1_2016_08_28``, Apache-2.0) holds TensorFlow variables. Export them
once, where TensorFlow is installed, and give the file with ``--set inception-v1.weights=PATH``::

    reader = tf.train.load_checkpoint("inception_v1.ckpt")
    numpy.savez("inception_v1.npz", **{name: reader.get_tensor(name)
                                       for name in reader.get_variable_to_shape_map()})
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor, nn

from extractors import _layouts, _weights
from extractors._inception import FEATURES, Trunk, unit_layout, unit_names
from extractors._layers import PerFrame
from extractors._spec import Geometry, Normalisation, Sampling, Spec

SLIM_CLASSES = 1001

SPECS = (
    Spec(
        name="inception-v1",
        modality="rgb",
        sampling=Sampling(fps=Fraction(5), window=1, stride=1),
        geometry=Geometry(short_side_px=256, crop_px=224),
        normalisation=Normalisation(mean=(127.5,), std=(127.5,)),
        layer="pool",
        layers={"pool": FEATURES, "logits": SLIM_CLASSES},
        options={"classes": str(SLIM_CLASSES)},
        paper="arXiv 1409.4842",
        summary="GoogLeNet with batch norm and TensorFlow's padding; weights by path (.npz)",
    ),
)

SLIM_BRANCHES = {
    "b0": "Branch_0/Conv2d_0a_1x1",
    "b1a": "Branch_1/Conv2d_0a_1x1",
    "b1b": "Branch_1/Conv2d_0b_3x3",
    "b2a": "Branch_2/Conv2d_0a_1x1",
    "b2b": "Branch_2/Conv2d_0b_3x3",
    "b3": "Branch_3/Conv2d_0b_1x1",
}
SLIM_STEM = {"conv1a": "Conv2d_1a_7x7", "conv2b": "Conv2d_2b_1x1", "conv2c": "Conv2d_2c_3x3"}
MISNAMED = ("mixed_5b.b2b", "0a_3x3")
"""The one 3x3 unit whose name begins with 0a instead of 0b, in TF-Slim and in I3D alike."""


class Inception(nn.Module):
    """The network on pictures; 5,607,184 parameters without logits (gamma included)."""

    def __init__(self, classes: int = SLIM_CLASSES, logits: bool = False) -> None:
        super().__init__()
        self.trunk = Trunk(3, flat=True)
        self.logits = nn.Linear(FEATURES, classes)
        self.scores = logits

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 1024), or to (N, classes) for logits."""
        rows: Tensor = self.trunk(x).mean(dim=(2, 3))  # N x 1024
        return self.logits(rows) if self.scores else rows


def network(spec: Spec) -> nn.Module:
    """Return the untrained network of `spec`, over the frames of a window."""
    return PerFrame(Inception(int(spec.options["classes"]), logits=spec.layer == "logits"))


def load(net: nn.Module, spec: Spec, state: Mapping[str, Tensor]) -> None:
    """Put TensorFlow-Slim variables, or tensors under our own keys, into `net`."""
    assert isinstance(net, PerFrame)
    own = from_slim(state, spec.name) if is_slim(state) else dict(state)
    _weights.load_strictly(net.net, own, spec.name)


def is_slim(state: Mapping[str, Tensor]) -> bool:
    """Tell whether these are TensorFlow-Slim's variables."""
    return any(key.startswith("InceptionV1/") for key in state)


def slim_layout() -> dict[str, str]:
    """Return TensorFlow-Slim's name of each of our keys that it has."""
    variables = {
        "bias": "/BatchNorm/beta",
        "running_mean": "/BatchNorm/moving_mean",
        "running_var": "/BatchNorm/moving_variance",
    }
    return {
        **unit_layout(lambda unit: f"InceptionV1/{slim_name(unit)}", "/weights", variables),
        "logits.weight": "InceptionV1/Logits/Conv2d_0c_1x1/weights",
        "logits.bias": "InceptionV1/Logits/Conv2d_0c_1x1/biases",
    }


def slim_name(unit: str) -> str:
    """Return TensorFlow-Slim's scope of one of our units.

    Examples
    --------
    >>> slim_name("mixed_4c.b1b"), slim_name("mixed_5b.b2b")
    ('Mixed_4c/Branch_1/Conv2d_0b_3x3', 'Mixed_5b/Branch_2/Conv2d_0a_3x3')
    """
    block, _, branch = unit.partition(".")
    if not branch:
        return SLIM_STEM[unit]
    scope = SLIM_BRANCHES[branch]
    if unit == MISNAMED[0]:
        scope = scope.replace("0b_3x3", MISNAMED[1])
    return f"{block.capitalize()}/{scope}"


def from_slim(state: Mapping[str, Tensor], owner: str) -> dict[str, Tensor]:
    """Return TensorFlow-Slim's variables as our state dict; filters H, W, I, O turn round."""
    own = _layouts.translate(state, slim_layout(), f"{owner} (TensorFlow-Slim variables)")
    for name in unit_names():
        key = f"trunk.{name}"
        own[f"{key}.conv.weight"] = own[f"{key}.conv.weight"].permute(3, 2, 0, 1)
        own[f"{key}.norm.weight"] = torch.ones_like(own[f"{key}.norm.bias"])
    own["logits.weight"] = own["logits.weight"].permute(3, 2, 0, 1).flatten(1)
    return own
