"""Rematerialisation: what is kept, and that nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax.errors import ConfigError
from semiseg_jax.models import remat
from semiseg_jax.models.layers import Draws
from semiseg_jax.models.network import build_network
from tests.model_config import model_config

pytestmark = pytest.mark.slow

SHAPE = (2, 32, 48, 3)
UNITS = ("encoder/stem", "encoder/stage1", "encoder/stage2", "decoder/hidden")


def _network(text, backbone="tiny"):
  config = model_config(backbone, "fcn", remat=text, projection={"kind": "convmlp", "width": 6})
  return build_network(config, num_classes=5, in_channels=3)


def _loss(network, params, stats, images, draws=None):
  """A number that depends on all outputs, and the new statistics."""
  mode = network.mode("train", (1, 1), draws=draws)
  features, stats = network.encode(params, stats, images, mode)
  outputs, stats = network.decode(params, stats, features, mode)
  weights = jnp.arange(5, dtype=jnp.float32).reshape(1, 1, 1, 5)
  return jnp.sum(weights * outputs["logits"] ** 2) + outputs["embedding"][..., 0].sum(), stats


def _kept(network):
  """Numbers that the backward pass to parameters and images keeps, besides the parameters."""
  pull = lambda p, s, x: jax.vjp(lambda p, x: _loss(network, p, s, x)[0], p, x)[1]
  params, stats = network.shapes()
  images = jax.ShapeDtypeStruct(SHAPE, jnp.float32)
  leaves = jax.tree.leaves(jax.eval_shape(pull, params, stats, images))
  return sum(leaf.size for leaf in leaves) - sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize("backbone", ["tiny", "hrnet_w18_small_v1"])
def test_each_policy_keeps_less(backbone):
  whole, products, blocks = (_kept(_network(t, backbone)) for t in ("none", "products", "blocks"))
  assert products < 0.6 * whole
  assert blocks < 0.6 * products


def test_products_keep_the_outputs_of_convolutions_beside_the_inputs_of_blocks():
  # The stem is one convolution of stride 2 to 8 channels.
  batch, height, width, _ = SHAPE
  extra = _kept(_network("encoder/stem=products")) - _kept(_network("encoder/stem=blocks"))
  assert extra == batch * (height // 2) * (width // 2) * 8


def test_a_beginning_chooses_units():
  whole, stage1 = _kept(_network("none")), _kept(_network("encoder/stage1=blocks"))
  both = _kept(_network("encoder/stage1=blocks,decoder=products"))
  assert both < stage1 < whole


@pytest.mark.parametrize("text", ["products", "blocks", "encoder/stage=blocks,decoder=products"])
def test_gradients_statistics_and_dropout_stay(text):
  images = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
  draws = Draws(keys=jax.random.split(jax.random.key(1), len(images)))
  plain = _network("none")
  variables = plain.init((0,))
  run = lambda network: jax.jit(
    jax.value_and_grad(lambda p: _loss(network, p, variables[1], images, draws), has_aux=True)
  )(variables[0])
  (loss, stats), gradients = run(plain)
  (again, moved), others = run(_network(text))
  np.testing.assert_allclose(again, loss, rtol=1e-5)
  # Biases before a BatchNorm have no gradient: so relative to the largest of all.
  largest = max(np.abs(g).max() for g in jax.tree.leaves(gradients))
  compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * largest)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), moved, stats)
  jax.tree.map(compare, others, gradients)


def test_rules_are_read_in_order_and_the_first_counts():
  assert remat.parse("blocks", UNITS) == (("", "blocks"),)
  rules = remat.parse("encoder/stage1=products,encoder=blocks", UNITS)
  assert rules == (("encoder/stage1", "products"), ("encoder", "blocks"))
  ordered = _kept(_network("encoder/stage1=products,encoder=blocks"))
  assert ordered > _kept(_network("encoder=blocks"))


@pytest.mark.parametrize(
  "text, message",
  [
    ("act", "holds 'act'; possible: none, products, blocks, or BEGINNING=POLICY"),
    ("stage1=blocks", "no unit begins with 'stage1'; units: encoder/stem, encoder/stage1, "),
  ],
)
def test_wrong_rules_name_the_possible_ones(text, message):
  with pytest.raises(ConfigError, match=message):
    remat.parse(text, UNITS)
