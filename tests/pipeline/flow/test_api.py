import json
import pickle

import numpy as np
import pytest

from pipeline import flow
from pipeline.errors import UsageError
from pipeline.flow.backends import native
from pipeline.flow.parameters import pyramid_shapes
from tests.pipeline.flow.textures import moved_pair


def test_backends_are_found_by_looking_at_modules() -> None:
    assert flow.names() == ("native", "opencv", "torch")


def test_a_wrong_backend_names_the_near_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'native'"):
        flow.open_backend("nativ")


@pytest.mark.parametrize("name", ["native", "opencv"])
def test_a_cpu_backend_refuses_other_devices(name: str) -> None:
    with pytest.raises(UsageError, match="cuda"):
        flow.open_backend(name, device="cuda")


def test_the_torch_backend_names_a_device_that_is_not_there() -> None:
    with pytest.raises(UsageError, match="nonsense"):
        flow.open_backend("torch", device="nonsense")


@pytest.mark.parametrize("name", ["native", "opencv", "torch"])
def test_backends_cross_processes(name: str) -> None:
    parameters = flow.Parameters(warps=2, scales=2)
    copy = pickle.loads(pickle.dumps(flow.open_backend(name, parameters)))
    first, second = moved_pair(24, 30, 1, 0)
    assert np.array_equal(copy(first, second), flow.tvl1(first, second, parameters, name).data[0])


@pytest.mark.parametrize("name", ["native", "opencv", "torch"])
@pytest.mark.parametrize(
    "pair",
    [
        (np.zeros((4, 5), np.float32), np.zeros((4, 5), np.float32)),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5, 3), np.uint8)),
        (np.zeros((4, 5), np.uint8), np.zeros((5, 4), np.uint8)),
        (np.zeros((0, 5), np.uint8), np.zeros((0, 5), np.uint8)),
    ],
)
def test_what_is_no_pair_of_grey_frames_is_refused(name: str, pair: tuple) -> None:
    with pytest.raises(ValueError, match="frame"):
        flow.open_backend(name)(*pair)


@pytest.mark.parametrize(
    "setting",
    [{"tau": 0}, {"epsilon": -1}, {"warps": 0}, {"scale_step": 1.0}, {"median_px": 3}],
)
def test_impossible_parameters_are_refused(setting: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        flow.Parameters(**setting)


def test_pyramid_stops_before_sixteen_pixels() -> None:
    assert pyramid_shapes(256, 340, flow.DEFAULTS)[-1] == (105, 139)
    assert pyramid_shapes(20, 200, flow.DEFAULTS) == [(20, 200), (16, 160)]
    assert pyramid_shapes(3, 3, flow.DEFAULTS) == [(3, 3)]


def test_what_a_recipe_says_is_plain_json_and_tells_presets_apart() -> None:
    faithful = flow.declared("native", flow.DEFAULTS, "uint8")
    assert json.loads(json.dumps(faithful)) == faithful
    assert faithful["numerics"] == native.NUMERICS
    assert faithful["rule"] == "centred"
    assert flow.declared("native", flow.PRESETS["quick"], "uint8") != faithful
    assert flow.declared("native", flow.DEFAULTS, "float32")["rule"] == "clipped"
    assert flow.declared("opencv", flow.DEFAULTS, "uint8")["numerics"].startswith("opencv-")
    with pytest.raises(UsageError, match="depth"):
        flow.declared("native", flow.DEFAULTS, "uint16")


@pytest.mark.parametrize(
    ("rule", "levels"),
    [
        ("centred", {0: 128, 20: 255, -20: 0, 0.078: 128, 0.079: 129, 30: 255, -30: 0}),
        ("dense_flow", {0: 128, 20: 255, -20: 0, 1: 134, 30: 255}),
        ("truncated", {0: 127, 20: 255, -20: 0, 1: 133, -30: 0}),
    ],
)
def test_quantisation_rules(rule: str, levels: dict) -> None:
    given = np.array(list(levels), np.float32)
    assert flow.quantise(given, rule).tolist() == list(levels.values())


@pytest.mark.parametrize("rule", sorted(flow.RULES))
def test_every_level_comes_back_as_itself_and_errors_are_bounded(rule: str) -> None:
    every = np.arange(256, dtype=np.uint8)
    if rule != "truncated":
        assert np.array_equal(flow.quantise(flow.dequantise(every, rule), rule), every)
    motion = np.linspace(-19.9, 19.9, 1999, dtype=np.float32)
    back = flow.dequantise(flow.quantise(motion, rule), rule)
    assert np.abs(back - motion).max() <= (40 / 255) * (1.001 if rule == "truncated" else 0.501)


def test_still_is_exactly_zero_after_eight_bits() -> None:
    still = np.zeros((3, 4, 2), np.float32)
    assert not flow.as_stored(still, "uint8").any()
    assert flow.as_stored(still + 50, "float32").max() == 20


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(UsageError, match="no quantisation rule 'jpeg'"):
        flow.quantise(np.zeros(3, np.float32), "jpeg")


@pytest.mark.parametrize("name", ["native", "torch"])
def test_n_frames_give_n_minus_one_flows_and_repeats_are_zero(name: str) -> None:
    first, second = moved_pair(30, 40, 1, 0)
    backend = flow.open_backend(name)
    stream = flow.stream(iter([first, second, second, second.copy(), first]), backend)
    flows = list(stream)
    assert (stream.pairs, stream.repeated) == (4, 2)
    assert not flows[1].any() and not flows[2].any()
    assert np.array_equal(flows[0], backend(first, second))
    assert np.array_equal(flows[3], backend(second, first))
    assert list(flow.stream([first], backend)) == []


def test_a_stream_hands_batches_to_a_backend_that_takes_them() -> None:
    frames = [moved_pair(20, 24, k, 0)[1] for k in range(5)]
    backend = flow.open_backend("torch")
    one_by_one = list(flow.stream(frames, backend))
    backend.batch_pairs = 3
    assert np.array_equal(list(flow.stream(frames, backend)), one_by_one)


def test_stacks_go_x1_y1_x2_y2() -> None:
    flows = np.arange(2 * 3 * 4 * 2, dtype=np.float32).reshape(2, 3, 4, 2)
    stack = flow.stacked(flows)
    assert stack.shape == (3, 4, 4)
    assert np.array_equal(stack[..., 1], flows[0, ..., 1])
    assert np.array_equal(stack[..., 2], flows[1, ..., 0])


def test_the_reference_keeps_one_solver_a_thread_whatever_sizes_it_meets() -> None:
    backend = flow.open_backend("opencv", flow.Parameters(warps=1, scales=1))
    sizes = [(20, 24), (20, 30), (20, 24)]
    flows = [backend(*moved_pair(*size, 1, 0)) for size in sizes]
    assert np.array_equal(flows[0], flows[2])
    assert set(backend._own.__dict__) == {"shape", "solver"}
