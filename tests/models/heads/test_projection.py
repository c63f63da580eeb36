"""Projection heads in numpy, and embeddings of length zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax.models.heads.projection import PROJECTIONS, ConvMLP, Linear, unit_length
from semiseg_jax.models.layers import Draws, Mode
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names
from tests.model_config import model_config
from tests.models import numpy_reference


def _draw(rng, *shape):
  return (0.5 + rng.random(shape)).astype(np.float32) * rng.choice([-1, 1], shape[-1])


def _unit(x):
  return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def test_convmlp_in_numpy():
  rng = np.random.default_rng(0)
  hidden = {
    "conv": {"kernel": _draw(rng, 1, 1, 4, 4), "bias": _draw(rng, 4)},
    "bn": {"scale": _draw(rng, 4), "bias": _draw(rng, 4)},
  }
  out = {"kernel": _draw(rng, 1, 1, 4, 3), "bias": _draw(rng, 3)}
  moments = {"mean": _draw(rng, 4), "var": np.abs(_draw(rng, 4))}
  x = rng.standard_normal((2, 5, 4, 4)).astype(np.float32)
  variables = {
    "params": {"hidden": hidden, "out": out},
    "batch_stats": {"hidden": {"bn": moments}},
  }
  y = x @ hidden["conv"]["kernel"][0, 0] + hidden["conv"]["bias"]
  bn = hidden["bn"]
  y = numpy_reference.batch_norm(y, bn["scale"], bn["bias"], moments["mean"], moments["var"])
  expected = _unit(np.maximum(y, 0) @ out["kernel"][0, 0] + out["bias"])
  actual = ConvMLP(3).apply(variables, {"high": x}, Mode("eval"))
  np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_linear_in_numpy():
  rng = np.random.default_rng(0)
  out = {"kernel": _draw(rng, 1, 1, 4, 3), "bias": _draw(rng, 3)}
  x = rng.standard_normal((2, 5, 4, 4)).astype(np.float32)
  actual = Linear(3).apply({"params": {"out": out}}, {"high": x}, Mode("eval"))
  np.testing.assert_allclose(actual, _unit(x @ out["kernel"][0, 0] + out["bias"]), atol=1e-6)


@pytest.mark.parametrize("kind, apart", [("reco", 3), ("u2pl", 4)])
def test_representations_in_numpy_by_their_published_names(kind, apart):
  rng, convs = np.random.default_rng(0), apart - 2
  head = PROJECTIONS[kind](width=4)
  x = rng.standard_normal((2, 4, 5, 3)).astype(np.float32)
  maps = {"fused": x, "high": x[:, :2, :2, :1]}
  init = lambda: head.init(jax.random.key(0), maps, Mode("eval"))
  boxes = jax.eval_shape(init)
  draw = lambda box: _draw(rng, *box.value.shape) * (1 if box.value.ndim > 1 else 0.5)
  variables = jax.tree.map(draw, boxes, is_leaf=lambda leaf: hasattr(leaf, "initializer"))
  variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
  leaves = traverse_util.flatten_dict(variables)
  prefix = "decoder." if kind == "u2pl" else ""
  state = {
    torch_names.torch_name(head.torch_names, path[1:]).removeprefix(
      f"{prefix}representation."
    ): leaf
    for path, leaf in leaves.items()
  }
  masks = {f"fuse{i}_dropout": rng.integers(0, 2, (2, 1, 1, 4)) for i in range(convs)}
  y = np.float64(x)
  for i in range(convs):
    conv, bn = f"{apart * i}", f"{apart * i + 1}"
    assert (f"{conv}.bias" in state) == (kind == "u2pl")
    y = numpy_reference.conv2d(y, state[f"{conv}.weight"].transpose(3, 2, 0, 1), padding=1)
    y = y + state.get(f"{conv}.bias", 0)
    moments = (state[f"{bn}.{name}"] for name in ("weight", "bias", "running_mean", "running_var"))
    y = np.maximum(numpy_reference.batch_norm(y, *moments), 0)
    if kind == "u2pl":
      y = y * masks[f"fuse{i}_dropout"] / 0.9
  expected = y @ state[f"{apart * convs}.weight"][0, 0] + state[f"{apart * convs}.bias"]
  actual = head.apply(variables, maps, Mode("eval", draws=Draws(masks=masks)))
  np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_a_representation_is_of_the_last_feature_where_nothing_is_fused():
  head = PROJECTIONS["reco"](width=4)
  init = lambda: head.init(
    jax.random.key(0), {"high": np.ones((1, 3, 3, 7), np.float32)}, Mode("eval")
  )
  kernel = jax.eval_shape(init)["params"]["fuse0"]["conv"]["kernel"]
  assert kernel.value.shape == (3, 3, 7, 4)


def test_unit_length_is_finite_at_zero_and_leaves_tiny_vectors_short():
  x = jnp.array([[3.0, 4.0], [0.0, 0.0], [3e-14, 4e-14]])
  np.testing.assert_allclose(unit_length(x), [[0.6, 0.8], [0, 0], [0.03, 0.04]], rtol=1e-6)
  assert jnp.isfinite(jax.grad(lambda x: unit_length(x)[:, 0].sum())(x)).all()


@pytest.mark.parametrize("kind", ["convmlp", "linear"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_line_of_the_config_adds_a_float32_embedding(kind, dtype):
  config = model_config("tiny", "fcn", dtype=dtype, projection={"kind": kind, "width": 6})
  network = build_network(config, num_classes=5, in_channels=3)
  mode = network.mode("batch", (2,))

  def call(params, stats, images):
    features, stats = network.encode(params, stats, images, mode)
    return network.decode(params, stats, features, mode)[0]

  images = jax.ShapeDtypeStruct((2, 32, 48, 3), jnp.float32)
  embedding = jax.eval_shape(call, *network.shapes(), images)["embedding"]
  assert (embedding.shape, embedding.dtype) == ((2, 4, 6, 6), jnp.float32)
