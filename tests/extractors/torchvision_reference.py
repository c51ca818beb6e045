"""torchvision itself as the judge: its models, presets, and what enters their classifiers."""

import numpy as np
import torch
from torch import nn

import extractors


def entry(model, name=""):
    from torchvision.models import get_model_weights

    weights = get_model_weights(model)
    return weights[name] if name else weights.DEFAULT


def parent_of(model, classes=None, seed=1, **settings):
    """torchvision's own model, its normalisation layers given statistics that matter."""
    from torchvision.models import get_model

    if classes is not None:
        settings["num_classes"] = classes
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = get_model(model, weights=None, **settings)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return net.eval()


def video(frames, height, width, seed=0):
    """Smooth pictures: noise would not tell a wrong interpolation from a right one."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (frames, 3, height // 8, width // 8)))
    fine = nn.functional.interpolate(coarse, (height, width), mode="bicubic")
    return fine.clamp(0, 255).round().to(torch.uint8)  # T x 3 x H x W


def resized(frames, spec):
    """What the pipeline hands over: resized by the rule of the spec, not cropped."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    size = spec.geometry.resized(*frames.shape[2:])
    rule = InterpolationMode(spec.geometry.interpolation)
    small = transforms.resize(frames, size, rule, antialias=spec.geometry.antialias)
    return list(small.permute(0, 2, 3, 1).contiguous().numpy())


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def rows_of_file(spec, state, tmp_path, frames):
    torch.save(state, tmp_path / "weights.pth")
    spec = spec.with_settings({"weights": str(tmp_path / "weights.pth"), "batch": "1"})
    return extractors.build(spec)([resized(frames, spec)])[0, 0]


def entering_last_layer(net, x):
    """What the reference model feeds to its classifier, caught on the way."""
    caught = []
    name, layer = [
        (n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.Conv3d)
    ][-1]
    assert name.split(".")[0] in ("fc", "classifier", "head", "heads")
    layer.register_forward_pre_hook(lambda _m, inputs: caught.append(inputs[0]))
    logits = net(x)
    return caught[0], logits
