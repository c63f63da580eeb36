"""Pyramid pooling and CCT's decoder against numpy; auxiliary decoders as a stack."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax import sharding, stacks
from semiseg_jax.errors import ConfigError
from semiseg_jax.models import initializers
from semiseg_jax.models.critics.single import Single
from semiseg_jax.models.heads.pspnet import PSPNet, SubPixelDecoder, pixel_shuffle
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names
from tests.golden_files import golden, golden_params
from tests.model_config import model_config
from tests.models import numpy_reference

BINS = (1, 2, 3)


def _pooled(x, bins):
  """Adaptive average pooling, cell by cell."""
  cells = np.zeros((len(x), bins, bins, x.shape[-1]))
  for i, j in np.ndindex(bins, bins):
    (top, bottom), (left, right) = (
      (k * n // bins, -(-(k + 1) * n // bins)) for k, n in ((i, x.shape[1]), (j, x.shape[2]))
    )
    cells[:, i, j] = x[:, top:bottom, left:right].mean((1, 2))
  return cells


def _enlarged(x, size):
  """Bilinear without aligned corners, axis by axis."""
  for axis, new in enumerate(size, 1):
    old = x.shape[axis]
    at = (np.arange(new) + 0.5) * old / new - 0.5
    x = np.apply_along_axis(lambda row, at=at: np.interp(at, np.arange(len(row)), row), axis, x)
  return x


def _conv_norm(x, params, padding=0):
  """With the statistics of the batch; returns also its mean and unbiased variance."""
  kernel = np.asarray(params["conv"]["kernel"]).transpose(3, 2, 0, 1)
  x = numpy_reference.conv2d(x, kernel, padding=padding)
  pixels = x.reshape(-1, x.shape[-1])
  bn = params["bn"]
  y = numpy_reference.batch_norm(x, bn["scale"], bn["bias"], pixels.mean(0), pixels.var(0))
  return np.maximum(y, 0), (pixels.mean(0), pixels.var(0, ddof=1))


def _shuffled(x):
  batch, height, width, channels = x.shape
  y = np.zeros((batch, 2 * height, 2 * width, channels // 4))
  for c, a, b in np.ndindex(channels // 4, 2, 2):
    y[:, a::2, b::2, c] = x[..., 4 * c + 2 * a + b]
  return y


def _decoded(x, params, doublings, last_relu=True):
  x = x @ params["reduce"]["kernel"][0, 0]
  for i in range(1, doublings + 1):
    x = x @ params[f"double{i}"]["kernel"][0, 0] + params[f"double{i}"]["bias"]
    x = _shuffled(np.maximum(x, 0) if i < doublings or last_relu else x)
  return x


def _variables(module, inputs, seed=0):
  """Random parameters and statistics of the module's shapes."""
  rng = np.random.default_rng(seed)
  declared = jax.eval_shape(lambda: module.init(jax.random.key(0), inputs, Mode("eval")))
  return jax.tree.map(
    lambda x: rng.uniform(-0.5, 1, x.shape).astype(np.float32), initializers.shapes(declared)
  )


def test_head_in_training_equals_numpy_on_an_odd_map():
  head = PSPNet(num_classes=3, width=6, bins=BINS, doublings=2)
  features = {"high": np.random.default_rng(0).standard_normal((3, 7, 5, 4)).astype(np.float32)}
  variables = _variables(head, features)
  params, stats = variables["params"], variables["batch_stats"]
  run = jax.jit(
    lambda p, s, f: head.apply(
      {"params": p, "batch_stats": s}, f, Mode("train", (3,)), mutable=["batch_stats"]
    )
  )
  outputs, moved = run(params, stats, features)
  x, pooling = features["high"].astype(np.float64), params["pooling"]
  maps, batch = [x], {}
  for i, bins in enumerate(BINS):
    y, batch[f"stage{i}"] = _conv_norm(_pooled(x, bins), pooling[f"stage{i}"])
    maps.append(_enlarged(y, x.shape[1:3]))
  joined = np.concatenate(maps, -1)
  expected, batch["bottleneck"] = _conv_norm(joined, pooling["bottleneck"], padding=1)
  np.testing.assert_allclose(outputs["features"], expected, atol=2e-4)
  logits = _decoded(expected, params["decoder"], 2)
  assert outputs["logits"].shape == (3, 28, 20, 3)
  np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-3, atol=2e-4 * logits.max())
  for name, (mean, variance) in batch.items():
    old, new = (tree["pooling"][name]["bn"] for tree in (stats, moved["batch_stats"]))
    np.testing.assert_allclose(new["mean"], 0.9 * old["mean"] + 0.1 * mean, atol=1e-4)
    np.testing.assert_allclose(new["var"], 0.9 * old["var"] + 0.1 * variance, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_variant_of_cac_classifies_what_is_pooled(dtype):
  """By its projector as well, in numpy; without one nothing but the classifier changes."""
  options = {"variant": "cac", "width": 6, "bins": BINS}
  projection = {"kind": "cac_psp", "width": 4}
  model = model_config("tiny", "pspnet", dtype=dtype, pspnet=options, projection=projection)
  network = build_network(model, num_classes=3, in_channels=3)
  x = np.random.default_rng(0).standard_normal((2, 5, 4, 48)).astype(np.float32)
  params, stats = network.init((0,))
  params = jax.tree.map(lambda p: p + 0.1, params)
  mode = network.mode("batch", (2,))
  outputs, _ = jax.jit(lambda p: network.decode(p, stats, {"high": x}, mode))(params)
  features = np.asarray(outputs["features"], np.float64)
  assert outputs["features"].dtype == dtype and features.shape == (2, 5, 4, 6)
  head, p = params["decoder"], params["projection"]
  linear = lambda x, p: x @ p["kernel"][0, 0] + p["bias"]
  logits = linear(features, head["classifier"])
  assert set(head) == {"pooling", "classifier"} and logits.shape == (2, 5, 4, 3)
  np.testing.assert_allclose(outputs["logits"], logits, rtol=1e-4, atol=1e-4)
  z = linear(np.maximum(linear(features, p["hidden"]), 0), p["out"])
  expected = z / np.linalg.norm(z, axis=-1, keepdims=True)
  tolerance = 1e-4 if dtype == "float32" else 3e-2
  np.testing.assert_allclose(outputs["embedding"], expected, atol=tolerance)
  assert outputs["logits"].dtype == outputs["embedding"].dtype == jnp.float32


def test_the_variant_of_cac_in_pytorch_names():
  model = model_config("tiny", "pspnet", pspnet={"variant": "cac"}, projection={"kind": "cac_psp"})
  network = build_network(model, num_classes=3, in_channels=3)
  rules = (*network.decoder.torch_names, *network.projection.torch_names)
  name = lambda *path: torch_names.torch_name(rules, path)
  assert name("classifier", "bias") == "classifier.bias"
  assert name("pooling", "stage3", "bn", "mean") == "encoder.psp.stages.3.2.running_mean"
  assert name("pooling", "bottleneck", "conv", "kernel") == "encoder.psp.bottleneck.0.weight"
  assert name("hidden", "kernel") == "project.0.weight" and name("out", "bias") == "project.2.bias"


def test_an_unknown_variant_is_refused():
  with pytest.raises(ConfigError, match="variant='psp': one of cct, cac"):
    PSPNet(num_classes=3, variant="psp")


@pytest.mark.parametrize("last_relu", [True, False])
def test_decoder_with_and_without_its_last_relu(last_relu):
  x = np.random.default_rng(0).standard_normal((2, 3, 5, 6)).astype(np.float32)
  module = SubPixelDecoder(2, 3, last_relu)
  params = _variables(module, x)["params"]
  logits = module.apply({"params": params}, x, Mode("eval"))["logits"]
  expected = _decoded(x, params, 3, last_relu)
  assert logits.shape == (2, 24, 40, 2)
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
  assert (expected.min() < 0) == (not last_relu)


def test_pixel_shuffle_by_hand():
  x = np.arange(2 * 3 * 8, dtype=np.float32).reshape(1, 2, 3, 8)
  np.testing.assert_array_equal(pixel_shuffle(jnp.asarray(x)), _shuffled(x))


def test_initial_laws_of_the_decoder():
  params, _ = Single(SubPixelDecoder(19, 3, True), 64).init((3,))
  params = params["module"]
  np.testing.assert_allclose(params["reduce"]["kernel"].std(), np.sqrt(2 / 64), rtol=0.1)
  for i in (1, 2, 3):
    kernel, bias = params[f"double{i}"]["kernel"][0, 0], params[f"double{i}"]["bias"]
    squares = kernel.reshape(19, 19, 4)
    np.testing.assert_array_equal(squares, np.repeat(squares[..., :1], 4, -1))
    np.testing.assert_allclose(squares[..., 0].std(), np.sqrt(2 / 19), rtol=0.2)
    assert len(np.unique(bias)) == 4 * 19 and np.abs(bias).max() <= 1 / np.sqrt(19)


def test_laws_of_pyramid_pooling_are_pytorchs():
  model = model_config("tiny", "pspnet", pspnet={"width": 32})
  params, _ = build_network(model, num_classes=3, in_channels=3).init((0,))
  for name, part in params["decoder"]["pooling"].items():
    kernel = part["conv"]["kernel"]
    bound = 1 / np.sqrt(np.prod(kernel.shape[:3]))
    assert 0.9 * bound < np.abs(kernel).max() <= bound, name


def test_decoder_has_the_published_number_of_parameters():
  params, _ = Single(SubPixelDecoder(21, 3, True), 512).shapes()
  assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 16_296


def test_auxiliary_decoders_are_a_stack_each_copy_with_its_own_maps():
  """Four of CCT's perturbations, copies of one stack, against its golden file."""
  arrays = golden("cct_perturbations")
  x = np.moveaxis(arrays["x"], 1, -1)
  maps = {  # number of the auxiliary decoder -> what it is given, and its output's name
    1: (x * arrays["drop_mask"][:, None, None], "out_drop"),
    2: (x * arrays["cutout_mask"][..., None], "out_cutout"),
    5: (x * arrays["fdrop_mask"][..., None], "out_feature_drop"),
    6: (x * (1 + np.moveaxis(arrays["fnoise_noise"], 0, -1)[None]), "out_feature_noise"),
  }
  network = Single(SubPixelDecoder(arrays["pred"].shape[1], 3, True), x.shape[-1])
  stack = stacks.whole("auxiliary", len(maps), network, sharding.make_mesh())
  copies = [golden_params(network, f"aux_decoders.{k}.") for k in maps]
  params, stats = jax.tree.map(lambda *leaves: np.stack(leaves), *copies)
  given = np.stack([perturbed for perturbed, _ in maps.values()])
  with jax.default_matmul_precision("highest"):
    outputs, _ = jax.jit(lambda p: stacks.apply(stack, p, stats, {"u": given}, bn="eval"))(params)
  for logits, (_, name) in zip(outputs["u"]["logits"], maps.values()):
    np.testing.assert_allclose(logits, np.moveaxis(arrays[name], 1, -1), rtol=1e-5, atol=1e-5)


def test_odd_pictures_and_bfloat16():
  images = np.random.default_rng(0).standard_normal((2, 65, 49, 3)).astype(np.float32)
  model = model_config("tiny", "pspnet", dtype="bfloat16", pspnet={"width": 16})
  network = build_network(model, num_classes=5, in_channels=3)
  params, stats = network.init((0,))

  @jax.jit
  def run(params, images):
    features, _ = network.encode(params, stats, images, network.mode("batch", (2,)))
    return network.decode(params, stats, features, network.mode("batch", (2,)))[0]

  outputs = run(params, images)
  assert outputs["logits"].shape == (2, 72, 56, 5) and outputs["features"].shape == (2, 9, 7, 16)
  assert outputs["logits"].dtype == jnp.float32 and outputs["features"].dtype == jnp.bfloat16
