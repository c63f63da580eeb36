"""DINOv3 against a transformer in plain numpy; its sizes, augmentation, dtypes and layers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax import sharding, stacks
from semiseg_jax.errors import ConfigError
from semiseg_jax.models import initializers
from semiseg_jax.models.backbones.dinov3 import BACKBONES, PATCH, REGISTERS, DinoV3
from semiseg_jax.models.heads.dpt import Dpt
from semiseg_jax.models.layers import Draws, Mode
from semiseg_jax.models.network import Network, build_network
from semiseg_jax.models.parts import declare
from semiseg_jax.models.torch import state_dicts
from tests.model_config import model_config
from tests.models.backbones import dinov3_numpy

EVAL, HEADS = Mode("eval"), 2
FORMS = {"mlp": {}, "swiglu": {"gated": 24}, "swiglu without biases": {"gated": 24, "biased": ""}}
# Parameters of the published networks, the mask token among them, counted in its authors' code.
PUBLISHED = {
  "dinov3_small": 21_601_152,
  "dinov3_small_plus": 28_697_472,
  "dinov3_base": 85_669_632,
  "dinov3_large": 303_154_176,
  "dinov3_huge_plus": 840_633_600,
  "dinov3_7b": 6_716_035_072,
}


def _tiny(dtype=jnp.float32, remat=(), **changes):
  sizes = {"width": 16, "depth": 4, "heads": HEADS, "levels": (0, 1, 2, 3)}
  encoder = DinoV3(**(sizes | changes))
  return Network("tiny_vit", encoder, Dpt(5, 8, (4, 4, 8, 8)), 3, 5, dtype, remat=remat)


def _variables(network):
  params, stats = network.shapes()
  return _drawn(params), stats


def _drawn(shapes):
  """Parameters of ordinary size: every branch, bias and token counts."""
  rng = np.random.default_rng(0)
  drawn = {
    path: (0.3 * rng.standard_normal(leaf.shape) + (path[-1] in ("scale", "gamma")))
    for path, leaf in traverse_util.flatten_dict(shapes).items()
  }
  return traverse_util.unflatten_dict({p: v.astype(np.float32) for p, v in drawn.items()})


def _faint(params):
  """Tokens so small that the epsilon of the normalizations counts."""
  small = ("patch_embed", "cls_token", "storage_tokens", "gamma")
  return jax.tree_util.tree_map_with_path(
    lambda path, x: x * np.float32(3e-3) if {k.key for k in path} & set(small) else x, params
  )


def _images(*size):
  return np.random.default_rng(1).standard_normal((2, *size, 3)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def _features(network, params, images, draws):
  """draws: keyword arguments of `Draws`."""
  mode = network.mode("eval", draws=Draws(**draws) if draws else None)
  return network.encode(params, {"encoder": {}}, images, mode)[0]


def _levels(network, params, images, **draws):
  """The four levels [B,gh,gw,D], at full precision."""
  with jax.default_matmul_precision("highest"):
    features = _features(network, params, images, draws)
  assert features.keys() == network.feature_info.keys()
  return [np.asarray(features[f"level{i}"]) for i in range(4)]


def _published(network, params, stats):
  """The state dict of the encoder in its authors' names."""
  state = state_dicts.to_state_dict(network, params, stats)
  start = "backbone."
  return {n.removeprefix(start): x for n, x in state.items() if n.startswith(start)}


def _assert_twin(network, params, stats, images, found, moved):
  state = _published(network, params, stats)
  for b, image in enumerate(images):
    expected = dinov3_numpy.levels(state, image, HEADS, functools.partial(moved, b))
    for i, k in enumerate(network.encoder.levels):
      ours = found[i][b].reshape(-1, 16)
      np.testing.assert_allclose(ours, expected[k], atol=5e-5)


@pytest.mark.parametrize("form", FORMS)
def test_equals_a_transformer_in_numpy_on_a_picture_that_is_no_square(form):
  network = _tiny(**FORMS[form])
  params, stats = _variables(network)
  images = _images(3 * PATCH, 2 * PATCH)
  for drawn in (params, _faint(params)):
    found = _levels(network, drawn, images)
    assert found[0].shape == (2, 3, 2, 16)
    _assert_twin(network, drawn, stats, images, found, lambda _, place: place)


def test_coordinates_are_moved_picture_by_picture():
  """Shift, jitter, rescale, in the order of the authors."""
  network = _tiny(rope_shift=0.5, rope_jitter=1.5, rope_rescale=2.0)
  params, stats = _variables(network)
  images, u = _images(2 * PATCH, 3 * PATCH), np.float32([[0.9, -0.3, 1, -0.5, 0.7], [0] * 5])
  found = _levels(network, params, images, masks={"rope": u})

  def moved(b, place):
    shift, jitter, rescale = 0.5 * u[b, :2], 1.5 ** u[b, 2:4], 2.0 ** u[b, 4]
    return (np.asarray(place) + shift) * jitter * rescale

  _assert_twin(network, params, stats, images, found, moved)


def test_coordinates_move_only_where_they_may():
  same = np.stack([_images(2 * PATCH, 2 * PATCH)[0]] * 2)
  keys = jax.random.split(jax.random.key(0), 2)
  still, moving = _tiny(), _tiny(rope_rescale=2.0)
  params, _ = _variables(still)
  first, second = _levels(still, params, same, keys=keys)[3]
  np.testing.assert_array_equal(first, second)
  np.testing.assert_array_equal(_levels(moving, params, same)[3][0], first)
  first, second = _levels(moving, params, same, keys=keys)[3]
  assert np.abs(first - second).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_number_of_parameters(backbone):
  config = model_config(backbone, "dpt")
  params, _ = build_network(config, num_classes=21, in_channels=3).shapes()
  assert sum(leaf.size for leaf in jax.tree.leaves(params["encoder"])) == PUBLISHED[backbone]


def test_registers_and_the_class_token_are_dropped_and_count():
  network = _tiny()
  params, _ = _variables(network)
  assert params["encoder"]["storage_tokens"].shape == (1, REGISTERS, 16)
  images = _images(PATCH, 2 * PATCH)
  before = _levels(network, params, images)[0]
  assert before.shape == (2, 1, 2, 16)
  for name in ("cls_token", "storage_tokens", "mask_token"):
    encoder = {**params["encoder"], name: params["encoder"][name][..., ::-1]}
    after = _levels(network, {**params, "encoder": encoder}, images)[0]
    assert (np.abs(after - before).max() > 1e-2) == (name != "mask_token")


@pytest.mark.parametrize("size", [(32, 40), (30, 32)])
def test_sides_that_are_no_multiples_of_the_patch_are_refused(size):
  network = _tiny()
  with pytest.raises(
    ConfigError, match=f"DINOv3 .* of 16, not {size[0]}x{size[1]}: set data.crop.* 512"
  ):
    network.encode(*network.shapes(), _images(*size), EVAL)


def test_logits_are_those_of_pictures_of_any_size():
  """The head gives 8 times the grid, half the resized picture; the stack gives the picture's."""
  network = _tiny()
  assert network.feature_info["high"] == (16, 16)
  sizes = {(500, 375): (496, 368), (5, 520): (16, 528), (24, 23): (32, 16)}
  assert {size: network.fitted(size) for size in sizes} == sizes

  def run(params, stats, images):
    features, stats = network.encode(params, stats, images, EVAL)
    return network.decode(params, stats, features, EVAL)[0]["logits"]

  assert jax.eval_shape(run, *network.shapes(), _images(48, 80)).shape == (2, 24, 40, 5)
  stack = stacks.whole("networks", 1, network, sharding.make_mesh())
  shapes = jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), network.shapes()
  )
  outputs, _ = jax.eval_shape(
    lambda p, s, x: stacks.apply(stack, p, s, {"x": x}, bn="eval"), *shapes, _images(48, 80)
  )
  assert outputs["x"]["logits"].shape == (1, 2, 24, 40, 5)


def test_bfloat16_computes_in_bfloat16_and_rotates_in_float32():
  network = _tiny(jnp.bfloat16)
  params, _ = _variables(network)
  images = _images(32, 48)
  found, exact = (_features(n, params, images, {})["high"] for n in (network, _tiny()))
  assert (found.dtype, exact.dtype) == (jnp.bfloat16, jnp.float32)
  assert 0 < np.abs(found.astype(np.float32) - exact).max() < 0.1 * np.abs(exact).max()
  types = {
    str(v.aval.dtype)
    for e in jax.make_jaxpr(lambda p: _features.__wrapped__(network, p, images, {}))(params).eqns
    if e.primitive.name in ("cos", "sin")
    for v in e.outvars
  }
  assert types == {"float32"}


def test_gradients_are_equal_with_rematerialization_and_pass_by_the_bias_of_keys():
  images = _images(16, 32)[:1]

  def gradients(remat):
    network = Network("tiny_vit", _tiny(depth=1).encoder, None, 3, 5, jnp.float32, remat=remat)
    params = _drawn(initializers.shapes(declare(network.encoder, images)[1]["params"]))
    run = lambda p: network.encode({"encoder": p}, {"encoder": {}}, images, EVAL)[0]["high"]
    return jax.jit(jax.grad(lambda p: (run(p) ** 3).sum()))(params)

  plain, again = gradients(()), gradients((("", "blocks"),))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), plain, again)
  query, key, value = np.split(np.asarray(plain["block0"]["attn"]["qkv"]["bias"]), 3)
  assert query.any() and value.any() and not key.any()
