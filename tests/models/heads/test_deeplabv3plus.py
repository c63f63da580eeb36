"""The head's variants against plain numpy forwards written from the published descriptions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from semiseg_jax.errors import ConfigError
from semiseg_jax.models.heads.deeplabv3plus import VARIANTS, DeepLabV3Plus
from semiseg_jax.models.layers import Draws, Mode
from semiseg_jax.models.network import build_network
from semiseg_jax.models.torch import torch_names
from tests.golden_files import golden_tensor
from tests.model_config import model_config
from tests.models import numpy_reference

CLASSES, WIDTH, RATES, LOW, DECODER = 3, 4, (1, 2, 3), 2, 5


def _head(variant):
  return DeepLabV3Plus(
    num_classes=CLASSES,
    variant=variant,
    aspp_width=WIDTH,
    aspp_rates=RATES,
    low_width=LOW,
    decoder_width=DECODER,
    decoder_convs=1 if variant == "reco" else 2,
    auxiliary=variant == "u2pl",
  )


def _inputs():
  rng = np.random.default_rng(0)
  return {
    "low": rng.standard_normal((3, 9, 7, 6)).astype(np.float32),
    "high": rng.standard_normal((3, 5, 4, 8)).astype(np.float32),
    "stage3": rng.standard_normal((3, 5, 4, 4)).astype(np.float32),
  }


def _variables(head, features):
  """Golden tensors, and the same by state-dict name."""
  shapes = jax.eval_shape(lambda: head.init(jax.random.key(0), features, Mode("eval")))
  flat = traverse_util.flatten_dict(
    jax.tree.map(lambda box: box.value, shapes, is_leaf=lambda x: hasattr(x, "initializer"))
  )
  state, tree = {}, {}
  for path, leaf in flat.items():
    name = torch_names.torch_name(head.torch_names, path[1:])
    state[name] = golden_tensor(name, torch_names.torch_shape(leaf.shape))
    tree[path] = torch_names.from_torch(state[name])
  return traverse_util.unflatten_dict(tree), state


def _stretch(x, size):
  """Bilinear resizing of [B,H,W,C] with aligned corners, one axis after the other."""
  for axis, target in ((1, size[0]), (2, size[1])):
    at = np.linspace(0, x.shape[axis] - 1, target)
    x = np.apply_along_axis(lambda line, at=at: np.interp(at, np.arange(len(line)), line), axis, x)
  return x


def _relu(x):
  return np.maximum(x, 0)


def _leaky(x):
  return np.where(x > 0, x, 0.01 * x)


class _Layers:
  """Convolutions and normalizations by state-dict name, and dropout masks by our path."""

  biased = ()  # convolutions with a bias

  def __init__(self, state, use_batch, masks):
    self.state, self.use_batch, self.masks = state, use_batch, masks

  def conv(self, x, name, **kwargs):
    y = numpy_reference.conv2d(x, self.state[f"{name}.weight"], **kwargs)
    return y + self.state[f"{name}.bias"] if name in self.biased else y

  def norm(self, x, name):
    state = self.state
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    if self.use_batch:
      mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return numpy_reference.batch_norm(x, state[f"{name}.weight"], state[f"{name}.bias"], mean, var)

  def conv_norm(self, x, conv, bn, **kwargs):
    return _relu(self.norm(self.conv(x, conv, **kwargs), bn))

  def drop(self, x, path, rate):
    return x * self.masks[path] / (1 - rate) if path in self.masks else x


def _numpy_torchsemiseg(layers, low, high):
  conv, norm, aspp = layers.conv, layers.norm, "head.aspp."
  branches = [conv(high, f"{aspp}map_convs.0")]
  branches += [
    conv(high, f"{aspp}map_convs.{i}", dilation=rate, padding=rate)
    for i, rate in enumerate(RATES, 1)
  ]
  y = conv(_leaky(norm(np.concatenate(branches, -1), f"{aspp}map_bn")), f"{aspp}red_conv")
  pool = conv(high.mean((1, 2), keepdims=True), f"{aspp}global_pooling_conv")
  pool = conv(_leaky(norm(pool, f"{aspp}global_pooling_bn")), f"{aspp}pool_red_conv")
  y = _leaky(norm(y + pool, f"{aspp}red_bn"))
  low = layers.conv_norm(low, "head.reduce.0", "head.reduce.1")
  y = np.concatenate([_stretch(y, low.shape[1:3]), low], -1)
  for i in (0, 3):
    y = layers.conv_norm(y, f"head.last_conv.{i}", f"head.last_conv.{i + 1}", padding=1)
  return conv(y, "classifier") + layers.state["classifier.bias"]


def _numpy_aspp(layers, high, names):
  """`names`: (convolution, normalization) of the branches, of the pool and of the projection."""
  *branches, pool, project = names
  y = [layers.conv_norm(high, *branches[0])]
  y += [
    layers.conv_norm(high, *branch, dilation=rate, padding=rate)
    for branch, rate in zip(branches[1:], RATES)
  ]
  pooled = layers.conv_norm(high.mean((1, 2), keepdims=True), *pool)
  y.append(np.broadcast_to(pooled, y[0].shape))
  return layers.conv_norm(np.concatenate(y, -1), *project)


def _numpy_cac(layers, low, high):
  aspp, decoder = "encoder.aspp.", "encoder.decoder."
  names = [(f"{aspp}aspp{i}.atrous_conv", f"{aspp}aspp{i}.bn") for i in range(1, 5)]
  pool = (f"{aspp}global_avg_pool.1", f"{aspp}global_avg_pool.2")
  y = _numpy_aspp(layers, high, [*names, pool, (f"{aspp}conv1", f"{aspp}bn1")])
  y = layers.drop(y, "aspp_dropout", 0.5)
  low = layers.conv_norm(low, f"{decoder}conv1", f"{decoder}bn1")
  y = np.concatenate([_stretch(y, low.shape[1:3]), low], -1)
  last = f"{decoder}last_conv."
  y = layers.conv_norm(y, f"{last}0", f"{last}1", padding=1)
  y = layers.drop(y, "fuse0_dropout", 0.5)
  y = layers.conv_norm(y, f"{last}4", f"{last}5", padding=1)
  y = layers.drop(y, "dropout", 0.1)
  return layers.conv(y, "classifier.1") + layers.state["classifier.1.bias"]


def _numpy_unimatch(layers, low, high):
  names = [(f"head.b{i}.0", f"head.b{i}.1") for i in range(4)]
  pool, project = ("head.b4.gap.1", "head.b4.gap.2"), ("head.project.0", "head.project.1")
  y = _numpy_aspp(layers, high, [*names, pool, project])
  y = layers.drop(y, "aspp_dropout", 0.5)  # of ST++ only
  low = layers.conv_norm(low, "reduce.0", "reduce.1")
  y = np.concatenate([low, _stretch(y, low.shape[1:3])], -1)
  for i in (0, 3):
    y = layers.conv_norm(y, f"fuse.{i}", f"fuse.{i + 1}", padding=1)
  y = layers.drop(y, "dropout", 0.1)
  return layers.conv(y, "classifier") + layers.state["classifier.bias"]


def _numpy_reco(layers, low, high):
  aspp = "ASPP.convs."
  names = [(f"{aspp}{i}.0", f"{aspp}{i}.1") for i in range(4)]
  pool, project = (f"{aspp}4.1", f"{aspp}4.2"), ("ASPP.project.0", "ASPP.project.1")
  y = _numpy_aspp(layers, high, [*names, pool, project])
  low = layers.conv_norm(low, "project.0", "project.1")
  y = np.concatenate([low, _stretch(y, low.shape[1:3])], -1)
  layers.fused = y
  y = layers.conv_norm(y, "classifier.0", "classifier.1", padding=1)
  return layers.conv(y, "classifier.3") + layers.state["classifier.3.bias"]


def _numpy_u2pl(layers, low, high):
  d = "decoder."
  layers.biased = (f"{d}low_conv.0", *(f"{d}classifier.{i}" for i in (0, 4, 8)))
  aspp = lambda i, x, **kwargs: layers.conv_norm(
    x, f"{d}aspp.conv{i}.{i == 1:d}", f"{d}aspp.conv{i}.{1 + (i == 1)}", **kwargs
  )
  pooled = aspp(1, high.mean((1, 2), keepdims=True))
  y = [np.broadcast_to(pooled, (*high.shape[:3], WIDTH)), aspp(2, high)]
  y += [aspp(i, high, dilation=rate, padding=rate) for i, rate in zip((3, 4, 5), RATES)]
  y = layers.conv_norm(np.concatenate(y, -1), f"{d}head.0", f"{d}head.1", padding=1)
  y = layers.drop(y, "aspp_dropout", 0.1)
  low = layers.conv_norm(low, f"{d}low_conv.0", f"{d}low_conv.1")
  y = np.concatenate([low, _stretch(y, low.shape[1:3])], -1)
  layers.fused = y
  for i, path in ((0, "fuse0_dropout"), (4, "dropout")):
    y = layers.conv_norm(y, f"{d}classifier.{i}", f"{d}classifier.{i + 1}", padding=1)
    y = layers.drop(y, path, 0.1)
  return layers.conv(y, f"{d}classifier.8")


NUMPY = {
  "reco": _numpy_reco,
  "u2pl": _numpy_u2pl,
  "torchsemiseg": _numpy_torchsemiseg,
  "cac": _numpy_cac,
  "unimatch": _numpy_unimatch,
  "st": _numpy_unimatch,
}


def _compare(variant, bn, masks):
  head, features = _head(variant), _inputs()
  variables, state = _variables(head, features)
  draws = Draws(masks=masks) if masks else None
  mode = Mode(bn, (3,), draws=draws)
  outputs = head.apply(variables, jax.tree.map(jnp.asarray, features), mode)
  exact = jax.tree.map(np.float64, features)
  layers = _Layers(state, bn == "batch", masks)
  expected = NUMPY[variant](layers, exact["low"], exact["high"])
  if "fused" in outputs:
    assert np.abs(outputs["fused"] - layers.fused).max() < 1e-4 * np.abs(layers.fused).max()
  assert outputs["logits"].shape == (3, 9, 7, CLASSES)
  assert np.abs(outputs["logits"] - expected).max() < 1e-4 * np.abs(expected).max()
  return outputs, expected


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("bn", ["eval", "batch"])
def test_equals_a_numpy_forward(variant, bn):
  _compare(variant, bn, {})


def test_dropouts_of_cac_act_where_and_as_they_were_published():
  rng = np.random.default_rng(1)
  shapes = {
    "aspp_dropout": (3, 5, 4, WIDTH),
    "fuse0_dropout": (3, 9, 7, DECODER),
    "dropout": (3, 9, 7, DECODER),
    "dropout_pooled": (3, 4, 3, DECODER),
  }
  masks = {path: rng.integers(0, 2, shape) for path, shape in shapes.items()}
  outputs, _ = _compare("cac", "eval", masks)  # a BatchNorm would undo a wrong rate
  _, state = _variables(_head("cac"), _inputs())
  pooled = np.float64(outputs["features"][:, :8, :6]).reshape(3, 4, 2, 3, 2, DECODER).mean((2, 4))
  dropped = pooled * masks["dropout_pooled"] / 0.9
  for name, x in (("logits_pooled", dropped), ("logits_undropped", pooled)):
    expected = x @ state["classifier.1.weight"][:, :, 0, 0].T + state["classifier.1.bias"]
    assert np.abs(outputs[name] - expected).max() < 1e-4 * np.abs(expected).max()


def test_dropouts_of_u2pl_drop_whole_maps():
  rng = np.random.default_rng(1)
  widths = {"aspp_dropout": WIDTH, "fuse0_dropout": DECODER, "dropout": DECODER}
  masks = {path: rng.integers(0, 2, (3, 1, 1, width)) for path, width in widths.items()}
  masks["aux_dropout"] = rng.integers(0, 2, (3, 1, 1, DECODER))
  outputs, _ = _compare("u2pl", "eval", masks)
  _, state = _variables(_head("u2pl"), _inputs())
  layers = _Layers(state, False, masks)
  layers.biased = ("auxor.aux.0", "auxor.aux.4")
  y = layers.conv_norm(np.float64(_inputs()["stage3"]), "auxor.aux.0", "auxor.aux.1", padding=1)
  expected = layers.conv(layers.drop(y, "aux_dropout", 0.1), "auxor.aux.4")
  assert np.abs(outputs["aux_logits"] - expected).max() < 1e-4 * np.abs(expected).max()


def test_auxiliary_logits_need_the_third_stage():
  head, features = _head("u2pl"), _inputs()
  del features["stage3"]
  with pytest.raises(ConfigError, match="needs the feature 'stage3', .* gives low, high: set it"):
    jax.eval_shape(lambda: head.init(jax.random.key(0), features, Mode("eval")))


def test_dropouts_of_st_act_where_and_as_they_were_published():
  rng = np.random.default_rng(2)
  shapes = {"aspp_dropout": (3, 1, 1, WIDTH), "dropout": (3, 9, 7, DECODER)}  # whole maps first
  _compare("st", "eval", {path: rng.integers(0, 2, shape) for path, shape in shapes.items()})

  asked = {}

  class Asked:
    """Drops nothing, and keeps what is asked for."""

    def keep(self, path, shape, rate):
      asked[path] = shape, rate
      return jnp.ones(shape, bool)

  head, features = _head("st"), _inputs()
  head.apply(_variables(head, features)[0], features, Mode("eval", (3,), draws=Asked()))
  assert asked == {path: (shape, 0.5 if "aspp" in path else 0.1) for path, shape in shapes.items()}


def test_cac_classifies_averaged_features():
  outputs, expected = _compare("cac", "eval", {})
  # Without dropout the classifier commutes with the average; the odd row and column are dropped.
  blocks = expected[:, :8, :6].reshape(3, 4, 2, 3, 2, CLASSES).mean((2, 4))
  assert np.abs(outputs["logits_pooled"] - blocks).max() < 1e-4 * np.abs(expected).max()


def test_logits_are_to_be_resized_with_aligned_corners():
  assert DeepLabV3Plus(num_classes=2).align_corners


def test_an_unknown_variant_names_the_known_ones():
  with pytest.raises(ConfigError, match="'v3'; possible: torchsemiseg, cac, unimatch, reco, u2pl"):
    DeepLabV3Plus(num_classes=2, variant="v3")


@pytest.mark.parametrize("variant", VARIANTS)
def test_initial_kernels_follow_the_law_of_the_code_base(variant):
  config = model_config("tiny", deeplabv3plus=dict(variant=variant))
  config.projection.kind, config.projection.width = "cac", 64
  network = build_network(config, num_classes=5, in_channels=3)
  flat = traverse_util.flatten_dict(network.init((0,))[0])
  for path, kernel in flat.items():
    if path[0] == "encoder" or path[-1] != "kernel" or kernel.size < 1000:
      continue
    fan_in = np.prod(kernel.shape[:3])
    if path[0] == "projection" or variant in (
      "unimatch",
      "reco",
      "u2pl",
      "st",
    ):  # PyTorch's default
      std, largest = np.sqrt(1 / (3 * fan_in)), np.sqrt(1 / fan_in)
      assert 0.99 * largest < np.abs(kernel).max() <= largest, path
    else:
      std = np.sqrt(2 / fan_in)
      assert np.abs(kernel).max() > 2.5 * std, path
    np.testing.assert_allclose(kernel.std(), std, rtol=0.1)
