"""The network call: streams, groups, gradients, copies - against one network in numpy."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from semiseg_jax import sharding, stacks
from semiseg_jax.errors import ConfigError
from semiseg_jax.models.layers import Dropout
from tests import small_network

KEY = jax.random.key(0)
TOLERANCE = {"rtol": 2e-5, "atol": 2e-5}


def _stack(name, n):
  (kind,) = small_network.family()
  return stacks.whole(name, n, kind.network, sharding.make_mesh())


@pytest.fixture(scope="module")
def stack():
  return _stack("networks", 2)


@pytest.fixture(scope="module")
def variables(stack):
  params, stats = stacks.init(stack, 0)
  rng = np.random.default_rng(1)
  shifted = jax.tree.map(lambda x: x + rng.random(x.shape, np.float32), stats)
  return params, shifted


def _streams(*rows, copies=None, seed=2):
  rng = np.random.default_rng(seed)
  lead = () if copies is None else (copies,)
  return {
    f"s{i}": (rng.normal(size=(*lead, b, 4, 6, 3)) * (i + 1) + i).astype(np.float32)
    for i, b in enumerate(rows)
  }


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames=("bn", "groups"))
def _call(function, stack, params, stats, inputs, *, bn, groups=None):
  return function(stack, params, stats, inputs, bn=bn, groups=groups)


def _expected(params, stats, x, bn, sizes, n=2):
  """Logits [n,B,h,w,C] and statistics of the joined pictures `x`, [B,...] or a list per copy."""
  found = [
    small_network.forward(
      small_network.copy(params, k),
      small_network.copy(stats, k),
      x[k] if isinstance(x, list) else x,
      bn,
      sizes,
    )
    for k in range(n)
  ]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *found)


@pytest.mark.parametrize("bn", ["train", "batch", "eval"])
def test_streams_are_groups_of_their_own_and_move_statistics_in_order(stack, variables, bn):
  streams = _streams(2, 3)
  outputs, stats = _call(stacks.apply, stack, *variables, streams, bn=bn)
  joined = np.concatenate(list(streams.values()))
  logits, moved = _expected(*variables, joined, bn, (2, 3))
  np.testing.assert_allclose(outputs["s0"]["logits"], logits[:, :2], **TOLERANCE)
  np.testing.assert_allclose(outputs["s1"]["logits"], logits[:, 2:], **TOLERANCE)
  small_network.close(stats, moved, **TOLERANCE)
  if bn != "train":
    small_network.close(stats, variables[1], rtol=0)


def test_joined_groups_share_statistics(stack, variables):
  streams = _streams(2, 3)
  outputs, stats = _call(
    stacks.apply, stack, *variables, streams, bn="train", groups=(("s0", "s1"),)
  )
  joined = np.concatenate(list(streams.values()))
  logits, moved = _expected(*variables, joined, "train", (5,))
  np.testing.assert_allclose(outputs["s1"]["logits"], logits[:, 2:], **TOLERANCE)
  small_network.close(stats, moved, **TOLERANCE)
  apart, _ = _expected(*variables, joined, "train", (2, 3))
  assert np.abs(apart - logits).max() > 0.1


def test_the_order_of_groups_is_the_order_of_the_updates(stack, variables):
  streams = _streams(2, 3)
  outputs, stats = _call(
    stacks.apply, stack, *variables, streams, bn="train", groups=(("s1",), ("s0",))
  )
  logits, moved = _expected(
    *variables, np.concatenate([streams["s1"], streams["s0"]]), "train", (3, 2)
  )
  np.testing.assert_allclose(outputs["s1"]["logits"], logits[:, :3], **TOLERANCE)
  np.testing.assert_allclose(outputs["s0"]["logits"], logits[:, 3:], **TOLERANCE)
  small_network.close(stats, moved, **TOLERANCE)


@pytest.mark.parametrize("grad", [True, False])
def test_without_groups_the_order_is_the_one_given_not_the_alphabet(stack, variables, grad):
  x = _streams(2, 3)
  given = {"z": x["s0"], "a": x["s1"]}

  @jax.jit
  def call(params, stats):  # a dict that goes through jit would come out sorted
    return stacks.apply(stack, params, stats, given, bn="train", grad=grad)

  _, stats = call(*variables)
  _, moved = _expected(*variables, np.concatenate([x["s0"], x["s1"]]), "train", (2, 3))
  small_network.close(stats, moved, **TOLERANCE)


def test_encode_then_decode_is_apply(stack, variables):
  params, stats = variables
  streams = _streams(2, 3)
  expected = _call(stacks.apply, stack, params, stats, streams, bn="train")
  features, stats = _call(stacks.encode, stack, params, stats, streams, bn="train")
  assert features["s1"]["high"].shape == (2, 3, 2, 3, 5)
  found = _call(stacks.decode, stack, params, stats, features, bn="train")
  small_network.close(found, expected, rtol=1e-6, atol=1e-6)


def test_encode_and_decode_may_have_other_groups(stack, variables):
  params, stats = variables
  streams = _streams(2, 3)
  features, after = _call(stacks.encode, stack, params, stats, streams, bn="train")
  outputs, after = _call(
    stacks.decode, stack, params, after, features, bn="train", groups=(("s0", "s1"),)
  )
  x = np.concatenate(list(streams.values()))
  for k in range(2):
    p, s = small_network.copy(params, k), small_network.copy(stats, k)
    f, s = small_network.encode(p, s, x, "train", (2, 3))
    logits, s = small_network.decode(p, s, f, "train", (5,))
    np.testing.assert_allclose(outputs["s0"]["logits"][k], logits[:2], **TOLERANCE)
    small_network.close(small_network.copy(after, k), s, **TOLERANCE)


def test_one_batch_per_copy_beside_a_shared_one(stack, variables):
  own = _streams(2, copies=2)["s0"]
  shared = _streams(3, seed=5)["s0"]
  outputs, stats = _call(
    stacks.apply, stack, *variables, {"own": own, "shared": shared}, bn="train"
  )
  x = [np.concatenate([own[k], shared]) for k in range(2)]
  logits, moved = _expected(*variables, x, "train", (2, 3))
  np.testing.assert_allclose(outputs["own"]["logits"], logits[:, :2], **TOLERANCE)
  np.testing.assert_allclose(outputs["shared"]["logits"], logits[:, 2:], **TOLERANCE)
  small_network.close(stats, moved, **TOLERANCE)


def test_groups_must_name_every_stream_once(stack, variables):
  for groups in ((("s0",),), (("s0",), ("s0", "s1")), (("s0",), ("s1",), ("s2",))):
    with pytest.raises(ValueError, match="networks: groups .* must name each of"):
      stacks.apply(stack, *variables, _streams(1, 1), bn="train", groups=groups)


def _gradients(stack, variables, call, **options):
  """Of sum(logits^2) (or features^2) by parameters and by pictures."""

  def loss(params, x):
    outputs, _ = call(stack, params, variables[1], {"s": x}, bn="train", **options)
    return sum((leaf**2).sum() for leaf in jax.tree.leaves(outputs))

  return jax.jit(jax.grad(loss, argnums=(0, 1)))(variables[0], _streams(2)["s0"])


def _zero(tree):
  return all((np.asarray(leaf) == 0).all() for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", ["apply", "encode"])
def test_grad_false_and_frozen(stack, variables, name):
  call = getattr(stacks, name)
  by_params, by_images = _gradients(stack, variables, call)
  assert not _zero(by_params["encoder"]) and not _zero(by_images)
  assert _zero(_gradients(stack, variables, call, grad=False))
  frozen_params, frozen_images = _gradients(stack, variables, call, frozen=True)
  assert _zero(frozen_params)
  np.testing.assert_allclose(frozen_images, by_images, rtol=1e-5, atol=1e-6)


def test_decode_frozen_lets_the_gradient_through_to_the_features(stack, variables):
  params, stats = variables
  features, _ = _call(stacks.encode, stack, params, stats, _streams(2), bn="eval")

  def loss(params, features, frozen, grad):
    outputs, _ = stacks.decode(stack, params, stats, features, bn="eval", frozen=frozen, grad=grad)
    return (outputs["s0"]["logits"] ** 2).sum()

  gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=(2, 3))
  by_params, by_features = gradient(params, features, True, True)
  assert _zero(by_params) and not _zero(by_features)
  assert _zero(gradient(params, features, False, False))


def test_take_gives_a_stack_of_one(stack, variables):
  streams = _streams(2)
  everything, _ = _call(stacks.apply, stack, *variables, streams, bn="eval")
  single = _stack("networks", 1)
  one, stats = _call(stacks.apply, single, *stacks.take(variables, 1), streams, bn="eval")
  assert one["s0"]["logits"].shape[0] == 1
  np.testing.assert_allclose(
    one["s0"]["logits"][0], everything["s0"]["logits"][1], rtol=1e-6, atol=1e-6
  )
  small_network.close(stats, jax.tree.map(lambda x: x[1:2], variables[1]), rtol=0)


def test_init_draws_every_copy_on_its_own(stack):
  params, stats = stacks.init(stack, 0)
  kernel = lambda tree: tree["encoder"]["first"]["conv"]["kernel"]
  assert kernel(params).shape == (2, 1, 1, 3, 5) and kernel(params).dtype == np.float32
  assert (kernel(params)[0] != kernel(params)[1]).any()
  again, _ = stacks.init(stack, 0)
  small_network.close(again, params, rtol=0)
  other_seed, _ = stacks.init(stack, 1)
  other_name, _ = stacks.init(_stack("teacher", 2), 0)
  fewer, _ = stacks.init(_stack("networks", 1), 0)
  assert (kernel(other_seed) != kernel(params)).any()
  assert (kernel(other_name) != kernel(params)).any()
  np.testing.assert_array_equal(kernel(fewer), kernel(params)[:1])


def test_shapes_are_those_of_init_and_placed(stack):
  abstract = stacks.shapes(stack)
  for leaf, drawn in zip(jax.tree.leaves(abstract), jax.tree.leaves(stacks.init(stack, 0))):
    assert (leaf.shape, leaf.dtype) == (drawn.shape, drawn.dtype)
    assert leaf.sharding == sharding.stack_sharding(stack.mesh, 2)
  assert jax.tree.structure(abstract) == jax.tree.structure(stacks.init(stack, 0))


def test_the_network_computes_in_its_own_dtype(stack, variables):
  network = dataclasses.replace(stack.network, dtype=jnp.bfloat16)
  half = dataclasses.replace(stack, network=network)
  features, _ = _call(stacks.encode, half, *variables, _streams(2), bn="eval")
  assert features["s0"]["high"].dtype == jnp.bfloat16


class _Dropping(nn.Module):
  num_classes = 5
  align_corners = True

  @nn.compact
  def __call__(self, features, mode):
    return {"logits": Dropout(0.5, name="drop")(features["high"], mode)}


@pytest.fixture(scope="module")
def dropping(stack):
  return dataclasses.replace(
    stack, network=dataclasses.replace(stack.network, decoder=_Dropping(), num_classes=5)
  )


def _dropped(stack, variables, streams, dropout):
  outputs, _ = stacks.apply(stack, *variables, streams, bn="eval", dropout=dropout)
  return {name: np.asarray(maps["logits"]) for name, maps in outputs.items()}


@pytest.mark.slow
def test_dropout_masks_reach_their_stream_and_copy(dropping):
  variables, streams = stacks.init(dropping, 0), _streams(2, 3)
  plain = _dropped(dropping, variables, streams, None)
  rng = np.random.default_rng(0)
  masks = {name: rng.random(x.shape) < 0.5 for name, x in plain.items()}
  found = _dropped(dropping, variables, streams, {k: {"drop": m} for k, m in masks.items()})
  for name, x in plain.items():
    np.testing.assert_allclose(found[name], np.where(masks[name], 2 * x, 0), rtol=1e-6)


@pytest.mark.slow
def test_dropout_keys_belong_to_the_pictures_and_copies_draw_apart(dropping):
  variables, streams = stacks.init(dropping, 0), _streams(2, 3)
  keys = {
    "s0": jax.random.split(jax.random.key(1), 2),
    "s1": jax.random.split(jax.random.key(2), 3),
  }
  both = _dropped(dropping, variables, streams, keys)
  alone = _dropped(dropping, variables, {"s1": streams["s1"][1:]}, {"s1": keys["s1"][1:]})
  np.testing.assert_array_equal(alone["s1"] != 0, both["s1"][:, 1:] != 0)
  # Libraries of convolutions round by the size of the batch.
  np.testing.assert_allclose(alone["s1"], both["s1"][:, 1:], rtol=1e-6, atol=1e-6)
  assert ((both["s1"][0] == 0) != (both["s1"][1] == 0)).any()


def test_dropout_must_be_given_for_every_stream(dropping):
  with pytest.raises(ValueError, match="must be given for .'s0', 's1'."):
    _dropped(dropping, stacks.init(dropping, 0), _streams(2, 3), {"s0": jax.random.split(KEY, 2)})


@pytest.mark.parametrize("groups", [None, (("s0", "s1"),)])
def test_bn_group_cuts_every_stream_and_moves_statistics_part_by_part(stack, variables, groups):
  streams = _streams(2, 4)
  grouped = dataclasses.replace(stack, bn_group=2)
  with pytest.raises(ConfigError, match="train.bn_group=2 .*'s0': 2, 's1': 4"):
    stacks.apply(grouped, *variables, streams, bn="train", groups=groups)
  streams = _streams(4, 4)
  outputs, stats = _call(stacks.apply, grouped, *variables, streams, bn="train", groups=groups)
  a, b = streams["s0"], streams["s1"]
  joined = np.concatenate([a[:2], b[:2], a[2:], b[2:]])
  logits, moved = _expected(*variables, joined, "train", (4, 4) if groups else (2, 2, 2, 2))
  found = {name: outputs[name]["logits"] for name in streams}
  expected = {
    "s0": np.concatenate([logits[:, :2], logits[:, 4:6]], 1),
    "s1": np.concatenate([logits[:, 2:4], logits[:, 6:]], 1),
  }
  small_network.close(found, expected, **TOLERANCE)
  small_network.close(stats, moved, **TOLERANCE)


def test_a_network_is_traced_once_for_all_copies(stack, variables, monkeypatch):
  network, calls = type(stack.network), []
  encode = network.encode  # of the class: it takes the network
  monkeypatch.setattr(network, "encode", lambda *args: calls.append(1) or encode(*args))
  call = functools.partial(stacks.apply, stack, bn="train")
  jax.eval_shape(call, *variables, _streams(2, 3))
  assert len(calls) == 1 < stack.n
