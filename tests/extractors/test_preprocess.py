import numpy as np
import pytest
import torch

import extractors
from extractors import ExtractorError, Geometry, Normalisation, Sampling, Spec, _preprocess

CPU = torch.device("cpu")


def spec_of(modality="rgb", *, crop=4, window=2, **changes):
    geometry = {"short_side_px": 6, "crop_px": crop} | changes.pop("geometry", {})
    normalisation = Normalisation(**changes.pop("normalisation", {}))
    return Spec(
        name="toy",
        modality=modality,
        sampling=Sampling(fps=None, window=window, stride=1, **changes.pop("sampling", {})),
        geometry=Geometry(**geometry),
        normalisation=normalisation,
        layer="pool",
        layers={"pool": 1},
        **changes,
    )


def pictures(count=2, height=6, width=9, seed=0):
    generator = np.random.default_rng(seed)
    return list(generator.integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def flows(count=2, height=6, width=9):
    generator = np.random.default_rng(1)
    return list(generator.normal(size=(count, height, width, 2)).astype(np.float32))


def tensors(window, spec):
    return [t.numpy() for t in _preprocess.to_tensors(window, spec, CPU)]


def test_centre_crop_puts_the_smaller_margin_first():
    frames = pictures()
    (found,) = tensors(frames, spec_of())
    assert found.shape == (3, 2, 4, 4)
    assert np.array_equal(found, np.stack(frames)[:, 1:5, 2:6].transpose(3, 0, 1, 2))


def test_centre_can_be_rounded_as_torchvision_rounds_it():
    from torchvision.transforms.functional import center_crop

    for width in range(4, 14):
        frames = pictures(1, 6, width)
        spec = spec_of(window=1, geometry={"centre": "round"})
        (found,) = tensors(frames, spec)
        expected = center_crop(torch.from_numpy(frames[0]).permute(2, 0, 1), [4, 4])
        assert np.array_equal(found[:, 0], expected.numpy())


def test_three_crops_lie_along_the_longer_side():
    wide, tall = Geometry(short_side_px=6, crop_px=4, crops=3), (9, 6)
    assert [c[:2] for c in _preprocess.crops(wide, 6, 9)] == [(1, 0), (1, 2), (1, 5)]
    assert [c[:2] for c in _preprocess.crops(wide, *tall)] == [(0, 1), (2, 1), (5, 1)]


def test_ten_crops_are_corners_and_centre_and_their_mirror_images():
    frames = pictures()
    found = tensors(frames, spec_of(geometry={"crops": 10}))
    assert len(found) == 10
    stack = np.stack(frames).transpose(3, 0, 1, 2)
    for crop, (top, left) in zip(found, [(0, 0), (0, 5), (2, 0), (2, 5), (1, 2)], strict=False):
        assert np.array_equal(crop, stack[:, :, top : top + 4, left : left + 4])
    for crop, mirror in zip(found[:5], found[5:], strict=True):
        assert np.array_equal(mirror, crop[..., ::-1])


def test_mirrored_flow_goes_the_other_way():
    window = flows()
    spec = spec_of("flow", geometry={"crops": 10}, normalisation={"mean": (0.5,), "std": (2.0,)})
    found = tensors(window, spec)
    field = np.stack(window)[:, 1:5, 2:6].transpose(3, 0, 1, 2)
    turned = field[..., ::-1] * np.array([-1, 1], np.float32)[:, None, None, None]
    assert np.allclose(found[4], (field - 0.5) / 2)
    assert np.allclose(found[9], -(field[..., ::-1] - 0.5) / 2 * [[[[1]]], [[[-1]]]])
    plain = tensors(window, spec_of("flow", geometry={"crops": 10}))
    assert np.array_equal(plain[9], turned)


def test_stacked_flow_is_x1_y1_x2_y2():
    window = flows(3)
    (found,) = tensors(window, spec_of("flow", window=3, flow_stack=True))
    assert found.shape == (6, 1, 4, 4)
    for frame in range(3):
        for axis in range(2):
            assert np.array_equal(found[2 * frame + axis, 0], window[frame][1:5, 2:6, axis])


def test_mean_flow_is_that_of_the_whole_field():
    window = flows()
    (found,) = tensors(window, spec_of("flow", normalisation={"subtract_mean_flow": True}))
    for t, field in enumerate(window):
        expected = (field - field.mean(axis=(0, 1)))[1:5, 2:6].transpose(2, 0, 1)
        assert np.allclose(found[:, t], expected, atol=1e-6)


def test_channel_order_and_per_channel_normalisation():
    frames = pictures()
    rule = {"channels": "bgr", "mean": (1.0, 2.0, 3.0), "std": (2.0, 4.0, 8.0)}
    (found,) = tensors(frames, spec_of(normalisation=rule))
    blue = np.stack(frames)[:, 1:5, 2:6, 2].astype(np.float32)
    red = np.stack(frames)[:, 1:5, 2:6, 0].astype(np.float32)
    assert np.array_equal(found[0], (blue - 1) / 2)
    assert np.array_equal(found[2], (red - 3) / 8)


def test_whole_picture_where_there_is_no_crop():
    frames = pictures()
    (found,) = tensors(frames, spec_of(crop=None))
    assert found.shape == (3, 2, 6, 9)
    with pytest.raises(ExtractorError, match="sees the whole picture"):
        spec_of(crop=None, geometry={"crops": 10})


@pytest.mark.parametrize(
    ("window", "told"),
    [
        (pictures(3), "window 0 has 3 frames, expected 2"),
        (pictures(2, height=3), "frames of 3x9, expected at least 4x4 for the crop"),
        ([*pictures(1), *pictures(1, width=8)], r"mixes frames of \(6, 9, 3\) and \(6, 8, 3\)"),
        ([f.astype(np.float32) for f in pictures()], r"float32 \(6, 9, 3\), expected uint8"),
        (flows(), r"expected uint8 \(H, W, 3\) for rgb"),
        ([f[..., 0] for f in pictures()], r"uint8 \(6, 9\), expected"),
    ],
)
def test_wrong_windows_are_refused(window, told):
    with pytest.raises(ExtractorError, match=f"toy: {told}|{told}"):
        _preprocess.check([window], spec_of())


def test_a_whole_segment_may_have_any_length_but_not_none():
    spec = spec_of(sampling={"mode": "whole"})
    _preprocess.check([pictures(1), pictures(7)], spec)
    with pytest.raises(ExtractorError, match="has no frame"):
        _preprocess.check([[]], spec)


def test_frames_stay_as_they_are():
    for name, frame in (
        ("i3d-flow", np.full((256, 256, 2), 3, np.float32)),
        ("i3d-rgb", np.full((256, 256, 3), 3, np.uint8)),
    ):
        before = frame.copy()
        (x,) = _preprocess.to_tensors([frame], extractors.spec(name), torch.device("cpu"))
        assert not np.array_equal(x[0, 0], before[:224, :224, 0])
        assert np.array_equal(frame, before)
