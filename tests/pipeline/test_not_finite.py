"""Numbers that are none never reach the store: the run stops and says where they came from."""

import numpy as np
import pytest

import extractors
from pipeline.embedding import Embedder, Rows
from pipeline.errors import NotFinite
from pipeline.job import Settings
from pipeline.monitor import Monitor
from pipeline.streams import StreamContext
from pipeline.windowing import Window


class Broken:
    """A network, and a flow, that give NaN."""

    spec = extractors.spec("efficientnet-lite0")

    def __call__(self, *inputs):
        return np.full((1, 1, 4), np.nan, np.float32)


def quiet() -> Monitor:
    return Monitor("test", lambda event: None)


def test_a_network_that_gives_nan_stops_the_run() -> None:
    embedder = Embedder(Broken(), quiet())
    embedder.add(Rows(), Window((np.zeros((8, 8, 3), np.uint8),), 0.0, 1.0))
    with pytest.raises(NotFinite, match="efficientnet-lite0: the network gave NaN"):
        embedder.flush()


def test_a_flow_that_is_nan_stops_the_run() -> None:
    context = StreamContext(Settings(), quiet(), lambda target, window: None, Broken())
    grey = np.zeros((8, 8), np.uint8)
    with pytest.raises(NotFinite, match="TV-L1"):
        context.raw_flow(grey, grey.copy())
