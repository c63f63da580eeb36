"""DINOv2 against a transformer in plain numpy; sizes, parameter counts, bfloat16."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax import sharding, stacks
from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import inference
from semiseg_jax.members import Member
from semiseg_jax.models.backbones.dinov2 import GRID, PATCH, DinoV2, interpolate_positions
from semiseg_jax.models.heads.dpt import Dpt
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import Network, build_network
from tests.model_config import model_config
from tests.small_network import upsampled

# Millions of parameters of encoder and head as the published training logs give them, and the
# widths of the head.
PUBLISHED = {
  "dinov2_small": (22.1, 2.7, 64, (48, 96, 192, 384)),
  "dinov2_base": (86.6, 10.9, 128, (96, 192, 384, 768)),
  "dinov2_large": (304.4, 31.2, 256, (256, 512, 1024, 1024)),
}
EVAL, HEADS = Mode("eval"), 2


def _tiny(dtype=jnp.float32):
  encoder = DinoV2(width=16, depth=5, heads=HEADS, levels=(0, 1, 2, 4))
  return Network("tiny_vit", encoder, Dpt(5, 8, (4, 4, 8, 8)), 3, 5, dtype)


def _variables(network):
  """Drawn parameters of ordinary size: every branch counts."""
  rng = np.random.default_rng(0)
  params, stats = network.shapes()
  leaves = traverse_util.flatten_dict(params)
  drawn = {
    path: (0.2 * rng.standard_normal(leaf.shape) + (path[-1] in ("scale", "gamma")))
    for path, leaf in leaves.items()
  }
  return traverse_util.unflatten_dict({p: v.astype(np.float32) for p, v in drawn.items()}), stats


def _images(*size):
  return np.random.default_rng(1).standard_normal((2, *size, 3)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _logits(network, mode, params, stats, images):
  features, _ = network.encode(params, stats, images, mode)
  return network.decode(params, stats, features, mode)[0]["logits"]


def _norm(x, p):
  centered = x - x.mean(-1, keepdims=True)
  return centered / np.sqrt((centered**2).mean(-1, keepdims=True) + 1e-6) * p["scale"] + p["bias"]


def _dense(x, p):
  return x @ p["kernel"] + p["bias"]


def _numpy_levels(params, images, positions):
  """The normalized outputs [T,D] of all blocks for one picture [H,W,3], in float64."""
  p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
  height, width, _ = images.shape
  kernel, tokens = p["patch_embed"]["kernel"].reshape(-1, 16), [p["cls_token"][0, 0]]
  for i in range(0, height, PATCH):
    for j in range(0, width, PATCH):
      patch = images[i : i + PATCH, j : j + PATCH].reshape(-1)
      tokens.append(patch @ kernel + p["patch_embed"]["bias"])
  x, levels = np.stack(tokens) + positions, []
  erf = np.vectorize(math.erf)
  for k in range(5):
    b = p[f"block{k}"]
    mixed = _dense(_norm(x, b["norm1"]), b["attn"]["qkv"])
    heads = []
    for h in range(HEADS):
      q, key, v = (mixed[:, 16 * i + 8 * h : 16 * i + 8 * h + 8] for i in range(3))
      weights = np.exp(q @ key.T / np.sqrt(8))
      heads.append(weights / weights.sum(-1, keepdims=True) @ v)
    x = x + b["ls1"]["gamma"] * _dense(np.concatenate(heads, -1), b["attn"]["proj"])
    hidden = _dense(_norm(x, b["norm2"]), b["mlp"]["fc1"])
    hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    x = x + b["ls2"]["gamma"] * _dense(hidden, b["mlp"]["fc2"])
    levels.append(_norm(x, p["norm"]))
  return levels


def test_equals_a_transformer_in_numpy_on_a_picture_that_is_no_square():
  network = _tiny()
  params, stats = _variables(network)
  images = _images(3 * PATCH, PATCH)
  with jax.default_matmul_precision("highest"):
    features, _ = jax.jit(functools.partial(network.encode, mode=EVAL))(params, stats, images)
  assert features.keys() == network.feature_info.keys()
  positions = np.asarray(interpolate_positions(params["encoder"]["pos_embed"], (3, 1))[0])
  for b in range(2):
    levels = _numpy_levels(params["encoder"], images[b].astype(np.float64), positions)
    for i, k in enumerate(network.encoder.levels):
      found = features[f"level{i}"][b]
      assert found.shape == (3, 1, 16)
      np.testing.assert_allclose(found.reshape(3, 16), levels[k][1:], atol=2e-5)


def test_positions_of_the_trained_grid_are_the_table():
  table = np.random.default_rng(0).standard_normal((1, 1 + GRID**2, 2)).astype(np.float32)
  np.testing.assert_array_equal(interpolate_positions(table, (GRID, GRID)), table)
  # A square of another size and a grid of as many patches both go through the interpolation.
  for grid in ((16, 16), (1, GRID**2)):
    moved = interpolate_positions(jnp.asarray(table), grid)
    assert moved.shape == (1, 1 + grid[0] * grid[1], 2)
    np.testing.assert_array_equal(moved[:, 0], table[:, 0])
    assert moved.shape != table.shape or (moved[:, 1:] != table[:, 1:]).any()


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_number_of_parameters(backbone):
  encoder, head, width, level_widths = PUBLISHED[backbone]
  config = model_config(backbone, "dpt", dpt=dict(width=width, level_widths=level_widths))
  params, _ = build_network(config, num_classes=21, in_channels=3).shapes()
  for part, millions in (("encoder", encoder), ("decoder", head)):
    count = sum(leaf.size for leaf in jax.tree.leaves(params[part]))
    assert round(count / 1e6, 1) == millions, part


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (2, 7)])
def test_logits_are_eight_times_the_grid(grid):
  network = _tiny()

  def run(params, stats, images):
    features, stats = network.encode(params, stats, images, EVAL)
    return network.decode(params, stats, features, EVAL)[0]

  outputs = jax.eval_shape(run, *network.shapes(), _images(PATCH * grid[0], PATCH * grid[1]))
  assert outputs["logits"].shape == (2, 8 * grid[0], 8 * grid[1], 5)
  assert outputs["features"].shape == (2, 8 * grid[0], 8 * grid[1], 8)


@pytest.mark.parametrize("size", [(28, 30), (27, 28)])
def test_sides_that_are_no_multiples_of_the_patch_are_refused(size):
  network = _tiny()
  with pytest.raises(ConfigError, match=f"multiples of 14, not {size[0]}x{size[1]}: set data.crop"):
    network.encode(*network.shapes(), _images(*size), EVAL)


def test_pictures_are_evaluated_at_the_nearest_multiples_of_the_patch():
  network = _tiny()
  sizes = {(500, 375): (504, 378), (5, 512): (14, 518), (525, 28): (532, 28)}
  assert {size: network.fitted(size) for size in sizes} == sizes
  params, stats = _variables(network)
  stack = stacks.whole("networks", 1, network, sharding.make_mesh())
  config, size, fitted = schema.default(), (30, 20), (28, 14)
  images = np.random.default_rng(0).integers(0, 256, (1, *size, 3), np.uint8)
  stacked = ({"networks": x} for x in (jax.tree.map(lambda leaf: leaf[None], params), stats))
  valid = np.array([[0, 0, *size]], np.int32)
  scores = inference.make_scores(config, [Member(stack)], "0")(*stacked, images, valid)
  x = (images / 255 - np.array(config.data.mean)) / np.array(config.data.std)
  x = jnp.asarray(upsampled(x, fitted), jnp.float32)
  logits = np.asarray(_logits(network, EVAL, params, stats, x), np.float64)
  expected = upsampled(upsampled(logits, fitted), size)
  np.testing.assert_allclose(scores, expected, atol=1e-4 * np.abs(expected).max())


def test_bfloat16_computes_in_bfloat16_and_returns_float32():
  network = _tiny(jnp.bfloat16)
  variables, images = _variables(network), _images(28, 42)

  mode = network.mode("eval")
  features, _ = jax.eval_shape(functools.partial(network.encode, mode=mode), *variables, images)
  assert {x.dtype for x in features.values()} == {jnp.dtype(jnp.bfloat16)}
  logits = _logits(network, mode, *variables, images)
  assert logits.dtype == jnp.float32
  exact = _logits(network, EVAL, *variables, images)
  assert 0 < np.abs(logits - exact).max() < 0.05 * np.abs(exact).max()


def test_a_head_that_needs_levels_names_the_backbones_that_give_them():
  with pytest.raises(
    ConfigError, match=r"needs the features \['level0'.*backbones for dpt: dinov2"
  ):
    build_network(model_config("resnet50_v1s", "dpt"), num_classes=5, in_channels=3)
