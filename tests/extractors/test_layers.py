"""Layers with SAME padding against plain torch on padded inputs, and how they lie in memory."""

import pytest
import torch
from torch.nn import functional

from extractors._layers import (
    SameConv3d,
    SameMaxPool2d,
    SameMaxPool3d,
    convolve,
    pad_same,
)

LAST = torch.channels_last_3d


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def made(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).relu()


KERNELS = [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)),
           ((3, 3, 3), (1, 1, 1))]  # fmt: skip


@pytest.mark.parametrize(("kernel", "stride"), KERNELS)
@pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 4), (5, 8, 7), (4, 2, 9)])
def test_pooling_without_a_copy_is_pooling_of_the_padded(kernel, stride, size):
    x = made(2, 3, *size)
    deep = functional.max_pool3d(pad_same(x, kernel, stride), kernel, stride)
    assert torch.equal(SameMaxPool3d(kernel, stride)(x), deep)
    x, kernel, stride = x[:, :, 0], kernel[1:], stride[1:]
    flat = functional.max_pool2d(pad_same(x, kernel, stride), kernel, stride)
    assert torch.equal(SameMaxPool2d(kernel, stride)(x), flat)


def test_places_outside_never_win_even_over_negative_numbers():
    x = -1 - made(1, 1, 1, 4, 4)
    assert (SameMaxPool3d((1, 3, 3), (1, 2, 2))(x) <= -1).all()


@pytest.mark.parametrize(("kernel", "stride"), [*KERNELS, ((7, 7, 7), (2, 2, 2)), ((1, 1, 1),) * 2])
def test_convolution_is_torchs_own_and_keeps_channels_last(kernel, stride):
    conv = SameConv3d(16, 8, kernel, stride)
    x = made(1, 16, 6, 11, 12)
    expected = functional.conv3d(
        pad_same(x.double(), kernel, stride), conv.weight.double(), conv.bias.double(), stride
    )
    with torch.inference_mode():
        for given in (x, x.contiguous(memory_format=LAST)):
            found = conv(given)
            assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-5)
            assert found.is_contiguous(memory_format=LAST)


def test_a_precision_that_onednn_has_not_on_this_machine_is_torchs_own():
    conv = SameConv3d(4, 4, (3, 3, 3)).to(torch.bfloat16)
    x = made(1, 4, 4, 6, 6).to(torch.bfloat16)
    with torch.inference_mode():
        assert conv(x).dtype == torch.bfloat16


def test_groups_and_biases_are_kept():
    conv = SameConv3d(8, 8, (3, 3, 3), groups=8, bias=False)
    x = made(1, 8, 4, 6, 6)
    with torch.inference_mode():
        expected = functional.conv3d(x, conv.weight, padding=1, groups=8)
        assert torch.allclose(convolve(x, conv, (1, 1, 1)), expected, atol=1e-6)


def test_a_compiler_sees_the_shapes_and_the_memory_that_the_convolution_makes():
    conv = SameConv3d(4, 6, (3, 3, 3), (2, 2, 2)).requires_grad_(False)
    x = made(2, 4, 5, 9, 8)
    torch.library.opcheck(
        torch.ops.action_features.onednn_conv3d.default,
        (x, conv.weight, conv.bias, (2, 2, 2), (1, 1, 1), 1),
        test_utils=("test_schema", "test_faketensor"),
    )
