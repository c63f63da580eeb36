"""A network of two 1x1 convolutions with BatchNorm that plain numpy can follow, and that numpy."""

import dataclasses
import functools

import jax
import numpy as np
from flax import linen as nn

from semiseg_jax import sharding, stacks
from semiseg_jax.config import schema
from semiseg_jax.methods import method as methods
from semiseg_jax.models.heads.projection import Linear
from semiseg_jax.models.layers import Conv, ConvNorm
from semiseg_jax.models.network import Network

STRIDE = 2
MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))


class Encoder(nn.Module):
  feature_info = {"high": (STRIDE, 5)}

  @nn.compact
  def __call__(self, x, mode):
    return {"high": ConvNorm(5, 1, STRIDE, name="first")(x, mode)}


class Decoder(nn.Module):
  num_classes: int
  align_corners = True

  @nn.compact
  def __call__(self, features, mode):
    x = ConvNorm(6, 1, name="second")(features["high"], mode)
    logits = Conv(self.num_classes, bias=True, name="classifier")(x, mode)
    return {"logits": logits, "features": x}


class WideEncoder(Encoder):
  """The same with more channels."""

  feature_info = {"high": (STRIDE, 7)}

  @nn.compact
  def __call__(self, x, mode):
    return {"high": ConvNorm(7, 1, STRIDE, name="first")(x, mode)}


def family(classes=4, projection=0, unlike=False):
  """The architectures that `assemble` takes.

  projection: width of embeddings, 0 = none.  unlike: two of them, one copy of each.
  """
  head, model = Linear(projection) if projection else None, _model()
  encoders = (Encoder(), WideEncoder()) if unlike else (Encoder(),)
  make = lambda e: Network("small", e, Decoder(classes), 3, classes, np.float32, head)
  shift, scale = ((0.1, 0.0, -0.2), (2.0, 1.0, 0.5)) if unlike else ((), ())
  first, *others = (methods.Architecture(make(e), int(unlike), model) for e in encoders)
  return [
    first,
    *(dataclasses.replace(o, shift=shift, scale=scale, relative_rate=0.5) for o in others),
  ]


@functools.cache
def _model():
  return schema.default().model


def method(config, *, classes=4, projection=0, modules=None, mesh=None, unlike=False):
  """The method of a config on the small network, or on two unlike ones."""
  mesh = mesh or sharding.make_mesh()
  return methods.assemble(config, mesh, family(classes, projection, unlike), modules=modules)


def variables(method, *, scale=0.3, seed=0):
  """(params, stats): networks that disagree, statistics away from 0 and 1."""
  rng, params, stats = np.random.default_rng(seed), {}, {}
  for name, stack in method.stacks.items():
    p, s = stacks.init(stack, seed)
    add = lambda x: x + scale * rng.normal(size=x.shape).astype(np.float32)
    params[name] = jax.tree.map(add, p)
    stats[name] = jax.tree.map(lambda x: x + rng.random(x.shape, np.float32), s)
  return params, stats


def copy(tree, k):
  """Copy k of a stacked tree in float64."""
  return jax.tree.map(lambda leaf: np.asarray(leaf[k], np.float64), tree)


def forward(params, stats, images, bn, groups=None):
  """Logits [B,h,w,C] and new statistics of one network, in float64.

  groups: sizes along the batch, each with its own statistics.
  """
  features, stats = encode(params, stats, images, bn, groups)
  return decode(params, stats, features, bn, groups)


def encode(params, stats, images, bn, groups=None):
  p, s = params["encoder"]["first"], stats["encoder"]["first"]
  y, s = _conv_norm(p, s, images[:, ::STRIDE, ::STRIDE], bn, groups)
  return y, {**stats, "encoder": {"first": s}}


def decode(params, stats, features, bn, groups=None):
  p = params["decoder"]
  y, s = _conv_norm(p["second"], stats["decoder"]["second"], features, bn, groups)
  logits = y @ p["classifier"]["kernel"][0, 0] + p["classifier"]["bias"]
  return logits, {**stats, "decoder": {"second": s}}


def _conv_norm(p, s, x, bn, groups):
  x = x @ p["conv"]["kernel"][0, 0]
  mean, var, parts = s["bn"]["mean"], s["bn"]["var"], []
  for part in np.split(x, np.cumsum(groups or (len(x),))[:-1]):
    m, v = mean, var
    if bn != "eval":
      pixels = part.reshape(-1, part.shape[-1])
      m, v = pixels.mean(0), pixels.var(0)
    if bn == "train":
      mean, var = 0.9 * mean + 0.1 * m, 0.9 * var + 0.1 * pixels.var(0, ddof=1)
    parts.append((part - m) / np.sqrt(v + 1e-5) * p["bn"]["scale"] + p["bn"]["bias"])
  return np.maximum(np.concatenate(parts), 0), {"bn": {"mean": mean, "var": var}}


def upsampled(logits, size):
  """Bilinear with aligned corners, one axis after the other."""
  for axis, new in ((1, size[0]), (2, size[1])):
    at = np.linspace(0, logits.shape[axis] - 1, new)
    low = np.minimum(at.astype(int), logits.shape[axis] - 2)
    shape = [1] * logits.ndim
    shape[axis] = new
    t = (at - low).reshape(shape)
    a, b = (np.take(logits, low + i, axis) for i in (0, 1))
    logits = a * (1 - t) + b * t
  return logits


def normalized(stream):
  """The pictures of one stream of a batch, 0 outside `valid`."""
  x = (stream["image"] / 255.0 - MEAN) / STD
  for row, (y0, x0, y1, x1) in zip(x, stream["valid"]):
    inside = np.zeros(row.shape[:2], bool)
    inside[y0:y1, x0:x1] = True
    row[~inside] = 0
  return x


def batch(names, *, size=(8, 6), rows=3, classes=4, seed=0, valid=None):
  """One batch of noise, numpy: {stream: {'image', 'label', 'valid', 'index'}}."""
  rng = np.random.default_rng(seed)
  h, w = size

  def stream():
    bright = rng.integers(40, 256)  # the streams differ in their statistics
    return {
      "image": rng.integers(0, bright, (rows, h, w, 3), dtype=np.uint8),
      "label": rng.integers(0, classes, (rows, h, w), dtype=np.uint8),
      "valid": np.tile(np.array(valid or (0, 0, h, w), np.int32), (rows, 1)),
      "index": np.arange(rows, dtype=np.int32),
      "row": np.arange(rows, dtype=np.int32),
    }

  return {name: stream() for name in names}


def close(actual, expected, **tolerance):
  """Asserts that two trees are close, leaf by leaf, by path."""
  paths = jax.tree_util.tree_leaves_with_path(expected)
  for (path, leaf), found in zip(paths, jax.tree.leaves(actual), strict=True):
    np.testing.assert_allclose(found, leaf, err_msg=jax.tree_util.keystr(path), **tolerance)
