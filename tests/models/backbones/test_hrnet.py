"""Sizes, names and options of HRNet, and one of its modules in numpy."""

import functools

import jax
import numpy as np
import pytest
from flax import traverse_util

from configs import presets
from semiseg_jax.config import schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.models.backbones import hrnet
from semiseg_jax.models.layers import Mode
from semiseg_jax.models.network import build_network
from tests.model_config import model_config
from tests.models import numpy_reference

# Backbone and width of the projection (0: none) -> published totals, of all and of the backbone.
COUNTS = {
  ("hrnet_w48", 256): (70_711_696, 65_325_120),
  ("hrnet_w48", 720): (71_046_240, 65_325_120),
  ("hrnet_w48", 0): (70_006_560, 65_325_120),
  ("hrnet_w18", 256): (10_367_386, 9_562_260),
}


def _network(backbone, width=0, **options):
  kind = {"kind": "convmlp", "width": width} if width else {}
  config = model_config(backbone, "fcn", projection=kind, **options)
  return build_network(config, num_classes=19, in_channels=3)


def _size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.slow
@pytest.mark.parametrize("backbone, width", COUNTS)
def test_number_of_parameters(backbone, width):
  params, stats = _network(backbone, width).shapes()
  assert (_size(params), _size(params["encoder"])) == COUNTS[backbone, width]
  if width:
    modules = [path[-2] for path in traverse_util.flatten_dict({**params, **stats})]
    leaves = [path[-1] for path in traverse_util.flatten_dict(params)]
    assert (leaves.count("kernel"), leaves.count("scale")) == (309, 307), modules


# Published in millions: with the official head of 19 classes.
@pytest.mark.slow
@pytest.mark.parametrize("name, millions", [("small_v1", 1.5), ("small_v2", 3.9)])
def test_small_networks_have_their_published_size(name, millions):
  network = _network(f"hrnet_w18_{name}", fcn={"variant": "official"})
  assert round(_size(network.shapes()[0]) / 1e6, 1) == millions


@pytest.mark.slow
@pytest.mark.parametrize("padding", ["symmetric", "same"])
@pytest.mark.parametrize("height, width", [(64, 96), (65, 97), (33, 34)])
def test_sizes_are_rounded_up_at_every_stride(height, width, padding):
  network = _network("hrnet_w18_small_v1", hrnet={"padding": padding})
  call = functools.partial(network.encode, mode=Mode("eval"))
  features, _ = jax.eval_shape(call, *network.shapes(), np.zeros((1, height, width, 3), np.float32))
  for name, (stride, channels) in network.feature_info.items():
    expected = (1, -(-height // stride), -(-width // stride), channels)
    assert features[name].shape == expected, name


def test_one_line_sets_the_conventions_of_paddle():
  config = schema.default()
  config.model.update(backbone="hrnet_w48", head="fcn")
  usual = build_network(config.model, num_classes=19, in_channels=3)
  assert (usual.encoder.padding, usual.encoder.align_corners) == ("symmetric", True)
  assert usual.align_corners and not usual.biased_variance
  presets.hrnet_of_paddle(config)
  network = build_network(config.model, num_classes=19, in_channels=3)
  assert (network.encoder.padding, network.encoder.align_corners) == ("same", False)
  assert not network.align_corners and network.biased_variance


def test_an_unknown_padding_names_the_possible_ones():
  with pytest.raises(
    ConfigError, match="model.hrnet.padding is 'valid'; possible: symmetric, same"
  ):
    _network("hrnet_w18", hrnet={"padding": "valid"})


def _conv_norm(x, variables, path, *, stride=1, pad=(1, 1), relu=False):
  """ConvNorm of `variables` {path: array} at `path`, padded by hand, in float64."""
  leaf = lambda *names: variables[(*path, *names)]
  kernel = leaf("conv", "kernel").transpose(3, 2, 0, 1)
  if kernel.shape[-1] == 3:
    pads = [pad if n % 2 == 0 else (1, 1) for n in x.shape[1:3]]
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
  x = numpy_reference.conv2d(x, kernel, stride=stride)
  bn = [leaf("bn", name) for name in ("scale", "bias", "mean", "var")]
  x = numpy_reference.batch_norm(x, *bn)
  return np.maximum(x, 0) if relu else x


def _enlarge(x, size, align_corners):
  """Bilinear, one axis after the other, by numpy's interpolation."""
  for axis, (n, target) in enumerate(zip(x.shape[1:3], size), 1):
    out = np.arange(target)
    at = out * (n - 1) / (target - 1) if align_corners else (out + 0.5) * n / target - 0.5
    line = lambda values, at=at, n=n: np.interp(at, np.arange(n), values)
    x = np.apply_along_axis(line, axis, x)
  return x


@pytest.mark.parametrize("padding, align_corners", [("symmetric", True), ("same", False)])
def test_module_is_that_of_the_paper(padding, align_corners):
  widths, rng = (2, 3, 4), np.random.default_rng(0)
  sizes = [(8, 6), (4, 3), (2, 2)]
  maps = [
    rng.standard_normal((2, *size, width)).astype(np.float32) for size, width in zip(sizes, widths)
  ]
  module = hrnet.Module(widths, 1, padding, align_corners)
  shapes = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, Mode("eval")), maps)
  draw = lambda x: (0.5 + rng.random(x.shape)).astype(np.float32) * rng.choice([-1, 1], x.shape[-1])
  variables = jax.tree.map(draw, jax.tree.map(lambda box: box.value, shapes, is_leaf=_is_box))
  variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
  flat = {k[1:]: v for k, v in traverse_util.flatten_dict(variables).items()}
  stride2 = dict(stride=2, pad=(0, 1) if padding == "same" else (1, 1))

  branches = []
  for b, x in enumerate(maps):
    y = _conv_norm(x, flat, (f"branch{b}_0", "unit1"), relu=True)
    branches.append(np.maximum(x + _conv_norm(y, flat, (f"branch{b}_0", "unit2")), 0))
  for i, actual in enumerate(module.apply(variables, maps, Mode("eval"))):
    total = branches[i].astype(np.float64)
    for j, x in enumerate(branches):
      if j > i:
        x = _conv_norm(x, flat, (f"fuse{i}_{j}",))
        total += _enlarge(x, sizes[i], align_corners)
      for step in range(i - j):
        last = step == i - j - 1
        x = _conv_norm(x, flat, (f"fuse{i}_{j}_{step}",), relu=not last, **stride2)
        total += x if last else 0
    expected = np.maximum(total, 0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def _is_box(leaf):
  return hasattr(leaf, "initializer")
