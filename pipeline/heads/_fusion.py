"""How much RGB and flow count when their scores are averaged.

Equal weights are what the papers start from (Simonyan & Zisserman 2014, arXiv:1406.2199). Where one
stream says little, they hurt; so a share can also be chosen: the one that gets most segments
right, by scores of heads that were not fitted on those segments. Of shares that are equally good
the most even one is taken, so a few segments more or less do not switch a stream off.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.heads._evaluate import Floats, correct

SHARES = tuple(k / 10 for k in range(11))


def mixed(rgb: Floats, flow: Floats, share: float | Floats) -> Floats:
    """Return the mean of two scores in which the second has a share, for all or for each row."""
    part = np.asarray(share, np.float64)[..., None]
    found: Floats = (1 - part) * rgb + part * flow
    return found


def best_share(rgb: Floats, flow: Floats, targets: NDArray[np.generic]) -> float:
    """Return the share of flow under which most segments are right, the most even of equals.

    Parameters
    ----------
    rgb, flow : array (n, C)
        Probabilities of segments that the heads were not fitted on.
    targets : array (n,) of class numbers, or (n, C) of zeros and ones for several labels
    """

    def merit(share: float) -> tuple[float, float]:
        return float(correct(mixed(rgb, flow, share), targets).sum()), -abs(share - 0.5)

    return max(SHARES, key=merit)
