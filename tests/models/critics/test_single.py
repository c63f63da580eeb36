"""A network of one module, run as a stack: streams, groups, statistics, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from semiseg_jax import sharding, stacks
from semiseg_jax.models.critics.single import Single
from semiseg_jax.models.layers import Conv, ConvNorm
from semiseg_jax.models.torch import torch_names
from tests import small_network


class _Critic(nn.Module):
  """One normalized map and one score per image, [B,1]."""

  align_corners = False
  torch_names = ((r"first/(conv|bn)", r"first.\1"), (r"last", r"last"))

  @nn.compact
  def __call__(self, x, mode):
    x = ConvNorm(4, name="first")(x, mode)
    return {"map": x, "score": Conv(1, bias=True, name="last")(x, mode).mean((1, 2))}


@pytest.fixture(scope="module")
def stack():
  return stacks.whole("critic", 2, Single(_Critic(), 3), sharding.make_mesh())


def _streams():
  rng = np.random.default_rng(0)
  draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
  return {"real": draw(2, 3, 5, 3), "fake": 2 + draw(3, 3, 5, 3)}


def _numpy(params, stats, x, sizes):
  """Maps, scores and statistics of one copy in float64, every group by its own statistics."""
  p, s = params["module"], stats["module"]
  x, running, maps = x @ p["first"]["conv"]["kernel"][0, 0], dict(s["first"]["bn"]), []
  for part in np.split(x, np.cumsum(sizes)[:-1]):
    pixels = part.reshape(-1, part.shape[-1])
    running["mean"] = 0.9 * running["mean"] + 0.1 * pixels.mean(0)
    running["var"] = 0.9 * running["var"] + 0.1 * pixels.var(0, ddof=1)
    y = (part - pixels.mean(0)) / np.sqrt(pixels.var(0) + 1e-5)
    maps.append(np.maximum(y * p["first"]["bn"]["scale"] + p["first"]["bn"]["bias"], 0))
  maps = np.concatenate(maps)
  scores = (maps @ p["last"]["kernel"][0, 0] + p["last"]["bias"]).mean((1, 2))
  return maps, scores, {"module": {"first": {"bn": running}}}


def test_streams_groups_and_statistics(stack):
  params, stats = stacks.init(stack, 0)
  streams = _streams()
  outputs, moved = jax.jit(lambda p, s: stacks.apply(stack, p, s, streams, bn="train"))(
    params, stats
  )
  joined = np.concatenate(list(streams.values()))
  for k in range(2):
    copy = lambda tree, k=k: small_network.copy(tree, k)
    maps, scores, expected = _numpy(copy(params), copy(stats), joined, (2, 3))
    for name, rows in (("real", slice(0, 2)), ("fake", slice(2, 5))):
      np.testing.assert_allclose(outputs[name]["map"][k], maps[rows], atol=1e-5)
      np.testing.assert_allclose(outputs[name]["score"][k], scores[rows], atol=1e-5)
    small_network.close(copy(moved), expected, atol=1e-6)


def test_encode_hands_the_maps_to_decode(stack):
  params, stats = stacks.init(stack, 0)
  streams = _streams()

  @jax.jit
  def run(params, stats):
    maps, same = stacks.encode(stack, params, stats, streams, bn="train")
    apart, _ = stacks.decode(stack, params, same, maps, bn="eval")
    return maps, same, apart, stacks.apply(stack, params, stats, streams, bn="eval")[0]

  maps, same, apart, together = run(params, stats)
  for name, x in streams.items():
    np.testing.assert_array_equal(maps[name]["maps"], np.stack([x, x]))
  small_network.close(same, stats, rtol=0)
  small_network.close(apart, together, rtol=1e-6)


def test_fooling_moves_the_maps_and_not_the_critic(stack):
  params, stats = stacks.init(stack, 0)

  def loss(params, x):
    outputs, _ = stacks.apply(stack, params, stats, {"fake": x}, bn="eval", frozen=True)
    return outputs["fake"]["score"].sum()

  by_params, by_maps = jax.jit(jax.grad(loss, (0, 1)))(params, _streams()["fake"])
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(by_params)) and np.any(by_maps)


def test_names_shapes_and_dtype():
  network = Single(_Critic(), 3, jnp.bfloat16)
  names = torch_names.network_names(network)
  assert names["module", "first", "bn", "var"] == "first.bn.running_var"
  assert network.name == "_critic" and network.align_corners is False
  params, stats = network.init((0,))
  shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), network.shapes())
  assert shapes == jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (params, stats))
  x = np.ones((1, 4, 4, 3), np.float32)
  outputs, _ = network.decode(params, stats, {"maps": x}, network.mode("eval"))
  assert outputs["map"].dtype == jnp.bfloat16


def test_other_channels_are_refused(stack):
  params, stats = stacks.init(stack, 0)
  with pytest.raises(ValueError, match=r"_critic: .*\(2, 4, 4, 5\); expected \[B,H,W,3\]"):
    stacks.apply(stack, params, stats, {"x": np.ones((2, 4, 4, 5), np.float32)}, bn="eval")
