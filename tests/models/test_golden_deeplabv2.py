"""DeepLabv2-ResNet-101 of AdvSemiSeg and s4GAN against its golden file, two and four branches."""

import functools

import jax
import numpy as np
import pytest
from flax import traverse_util

from configs import networks
from semiseg_jax.config import schema
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names
from semiseg_jax.ops.resize import resize_bilinear
from tests.golden_files import golden, golden_params, published_shapes, torch_shapes

pytestmark = pytest.mark.slow

NAME = "deeplabv2_r101_advsemiseg"
MEAN = np.array((122.67891434, 116.66876762, 104.00698793), np.float32)
# End of an array's name -> branches that are summed.
ENDS = {"": 2, "_four": 4}
FEATURES = {"layer1": "low", "layer2": "stage2", "layer3": "stage3", "layer4": "high"}


def _network(summed):
  model = schema.default().model
  networks.choose(model, "advsemiseg", 101)
  model.deeplabv2.summed = summed
  classes = published_shapes(NAME)["layer5.conv2d_list.0.bias"][0]
  return build_network(model, num_classes=classes, in_channels=3)


@functools.partial(jax.jit, static_argnums=2)
def _run(params, stats, bn, x):
  """Returns the logits by end of name, the new statistics and the maps by part."""
  mode = Mode(bn, (len(x),))
  encoder = _network(0).encoder
  features, new = encoder.apply(
    {"params": params["encoder"], "batch_stats": stats["encoder"]},
    x,
    mode,
    capture_intermediates=lambda module, _: module.path == ("stem",),
    mutable=["batch_stats", "intermediates"],
  )
  logits = {
    end: _network(summed).decode(params, stats, features, mode)[0]["logits"]
    for end, summed in ENDS.items()
  }
  maps = {part: features[name] for part, name in FEATURES.items()}
  maps["maxpool"] = new["intermediates"]["stem"]["__call__"][0]
  return logits, {**stats, "encoder": new["batch_stats"]}, maps


def _picture(array):
  return np.moveaxis(array, 1, -1).astype(np.float32) - MEAN


def _calibrated(before, after):
  """The statistics after momentum 1, of those before and after momentum 0.1."""
  return jax.tree.map(
    lambda a, b: ((np.float64(b) - 0.9 * np.float64(a)) / 0.1).astype(np.float32), before, after
  )


@pytest.fixture(scope="module")
def runs():
  """The golden arrays and our runs 'a', 'b', 'train', 'a_calibrated', which starts from 'train'."""
  arrays = golden(NAME)
  params, stats = golden_params(_network(2))
  with jax.default_matmul_precision("highest"):
    run = functools.partial(_run, params)
    ours = {case: run(stats, "eval", _picture(arrays[f"image_{case}"])) for case in ("a", "b")}
    ours["train"] = run(stats, "train", _picture(arrays["image_train"]))
    calibrated = _calibrated(stats, ours["train"][1])
    ours["a_calibrated"] = run(calibrated, "eval", _picture(arrays["image_a"]))
  return arrays, ours, calibrated


def _near(actual, expected, tolerance, name):
  """Largest difference relative to the standard deviation of `expected` [B,C,H,W]."""
  actual = np.moveaxis(np.asarray(actual), -1, 1)
  assert actual.shape == expected.shape and actual.dtype == np.float32
  assert np.abs(actual - expected).max() < tolerance * expected.std(), name


def test_names_and_shapes_are_the_published_ones():
  for summed in ENDS.values():
    assert torch_shapes(_network(summed)) == published_shapes(NAME)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("case", ["a", "b"])
def test_logits_of_evaluation(runs, case, end):
  arrays, ours, _ = runs
  _near(ours[case][0][end], arrays[f"logits_{case}{end}"], 2e-4, case)


def test_enlarged_logits(runs):
  arrays, ours, _ = runs
  size = arrays["image_a"].shape[2:]
  up = resize_bilinear(ours["a"][0][""], size, _network(2).align_corners)
  _near(up[:, ::4, ::4], arrays["logits_up_a"], 2e-4, "logits_up_a")


@pytest.mark.parametrize("part", ["maxpool", *FEATURES])
@pytest.mark.parametrize("case", ["a", "b"])
def test_maps_of_evaluation(runs, case, part):
  arrays, ours, _ = runs
  found = np.asarray(ours[case][2][part])
  first = arrays[f"act_{part}_{case}"]
  _near(found[..., : first.shape[1]], first, 2e-4, part)
  found = found.astype(np.float64)
  moments = (found.mean(), np.abs(found).mean(), np.sqrt(np.square(found).mean()))
  expected = arrays[f"actstat_{part}_{case}"]
  np.testing.assert_allclose(moments, expected, rtol=1e-3, atol=2e-4 * expected[2])


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("case", ["train", "a_calibrated"])
def test_logits_by_the_statistics_of_a_batch(runs, case, end):
  arrays, ours, _ = runs
  _near(ours[case][0][end], arrays[f"logits_{case}{end}_f64"], 6e-3, case)


def test_running_statistics(runs):
  arrays, ours, calibrated = runs
  names = torch_names.network_names(_network(2))
  checked = 0
  for prefix, stats in (("after_train_", ours["train"][1]), ("calibrated_", calibrated)):
    leaves = traverse_util.flatten_dict(stats)
    by_name = {prefix + name: np.asarray(leaves[p]) for p, name in names.items() if p in leaves}
    for key in by_name.keys() & arrays.keys():
      expected = arrays[key]
      error = np.abs(by_name[key][: len(expected)] - expected).max()
      assert error < 1e-3 * np.abs(expected).max(), key
      checked += 1
  assert checked == sum(key.startswith(("after_train_", "calibrated_")) for key in arrays)


def test_classes_of_the_calibrated_network(runs):
  arrays, ours, _ = runs
  expected = arrays["argmax_a_calibrated"]
  up = resize_bilinear(ours["a_calibrated"][0][""], expected.shape[1:], align_corners=True)
  assert (np.argmax(up, -1) != expected).mean() <= 0.005
