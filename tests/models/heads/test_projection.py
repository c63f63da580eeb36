"""Projection heads in numpy, and embeddings of length zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.models.heads.projection import ConvMLP, Linear, unit_length
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import build_network
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
