"""Passes of a classifier of pictures and of an attention over its maps, beside a network."""

import jax
import jax.numpy as jnp

from semiseg_jax.errors import ConfigError
from semiseg_jax.methods.contract import Net
from semiseg_jax.methods.passes import Features
from semiseg_jax.methods.step import Step
from semiseg_jax.models.critics.class_attention import ClassAttention, ImageClassifier
from semiseg_jax.models.critics.single import Single
from semiseg_jax.models.network import Network
from semiseg_jax.ops import class_maps
from semiseg_jax.ops.resize import resize_bilinear, resize_nearest

LAST = "high"  # the feature that is classified
JOINED = 2  # so many features, the last ones, are compared by the attention


def nets(n: int, width: int, background: bool) -> list[Net]:
  """Returns 'classifier' and 'attention', n copies each, under the optimizer of the networks.

  Args:
    n: of the networks.
    width: channels of keys and queries.
    background: class 0 is no class of a picture.

  Making their networks raises ConfigError where the background is the only class.
  """
  channels = lambda T: [channels for _, channels in list(T.feature_info.values())[-JOINED:]]

  def classifier(T: Network) -> Single:
    return Single(ImageClassifier(_seeds(T, background)), channels(T)[-1], T.dtype)

  def attention(T: Network) -> Single:
    seeds = _seeds(T, background)
    module = ClassAttention(T.num_classes, seeds, width)
    return Single(module, seeds + 1 + sum(channels(T)), T.dtype)

  return [
    Net("classifier", n, "critic", network=classifier),
    Net("attention", n, "critic", network=attention),
  ]


def _seeds(T: Network, background: bool) -> int:
  """The classes that a picture can have."""
  if T.num_classes <= background:
    raise ConfigError(
      f"method.pseudoseg.background=True: the data set has {T.num_classes} class, so that none is "
      "left beside the background; set method.pseudoseg.background=False."
    )
  return T.num_classes - background


def classified(s: Step, stream: str, e: Features, grad: bool = True) -> tuple[jax.Array, jax.Array]:
  """Returns logits z [N,B,K] of pictures, and Grad-CAM [N,B,h,w,K] without gradient."""
  A = {stream: e.maps[0][LAST]}
  z = s.net("classifier", A, grad=grad, out="head")[stream]
  return z[:, :, 0, 0], s.net("classifier", A, grad=False, out="cam")[stream]


def attended(
  s: Step,
  stream: str,
  e: Features,
  M: jax.Array,
  y: jax.Array,
  v: jax.Array,
  grad: bool = True,
) -> jax.Array:
  """Returns attention logits a [N,B,h,w,C]; their gradient ends in the attention.

  Args:
    s: the step.
    stream: of the pictures.
    e: their features.
    M: their Grad-CAM.
    y: the classes in a picture, 0 or 1, [N or 1,B,K].
    v: what is seen, bool [B,H,W].
    grad: see `Step.net`.
  """
  size, names = M.shape[2:4], list(s.feature_info("networks"))[-JOINED:]
  v = jnp.broadcast_to(resize_nearest(v, size)[None, ..., None], (*M.shape[:-1], 1))
  F = [resize_bilinear(e.maps[0][name], size, align_corners=True) for name in names]
  maps = [x.astype(M.dtype) for x in (class_maps.seeds(M, y), v, *F)]
  maps = jax.lax.stop_gradient(jnp.concatenate(maps, -1))
  return s.net("attention", {stream: maps}, grad=grad, out="head")[stream]
