"""Figures the papers publish, shown beside measured ones and never mixed with them.

They were measured on other data, with networks trained end to end on it: they say what the field
found, not what to expect here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

KARPATHY = "Sports-1M video hit@1, Karpathy 2014"
CARREIRA = "Kinetics test top-1, Carreira & Zisserman 2017"
DEEPMIND = "Kinetics-400 test top-1, DeepMind's kinetics-i3d"
TRAN = "Sports-1M video hit@1, Tran 2015"

PUBLISHED: Mapping[str, str] = MappingProxyType(
    {
        "single frame": f"59.3 ({KARPATHY})",
        "early fusion": f"57.7 ({KARPATHY})",
        "late fusion": f"59.3 ({KARPATHY})",
        "slow fusion": f"60.9 ({KARPATHY})",
        "multiresolution": f"60.0 single frame ({KARPATHY})",
        "ConvNet+LSTM": f"63.3, 53.9 without ImageNet ({CARREIRA})",
        "3D-ConvNet": f"56.1 ({CARREIRA}); 60.0 ({TRAN})",
        "two-stream, RGB": f"62.2 ({CARREIRA})",
        "two-stream, flow": f"52.4 ({CARREIRA})",
        "two-stream, both": f"65.6 ({CARREIRA})",
        "I3D, RGB": f"71.1, 68.4 without ImageNet ({DEEPMIND})",
        "I3D, flow": f"63.4, 61.5 without ImageNet ({DEEPMIND})",
        "I3D, both": f"74.2, 71.6 without ImageNet ({DEEPMIND})",
    }
)
