"""What the networks of a run say of windows and of pictures: measures of doubt, and features."""

import dataclasses
from collections.abc import Callable

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from semiseg_jax import members as nets
from semiseg_jax import stacks
from semiseg_jax.evaluation import inference
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.protocol import Protocol, networks_of
from semiseg_jax.evaluation.windows import Forward, Segmenter
from semiseg_jax.ops.preprocess import normalize
from semiseg_jax.suggesting import measures

_BATCH = 8  # pictures whose features are computed at once
_CHANNELS = len(measures.MEASURES) + 1


@dataclasses.dataclass(frozen=True)
class Networks:
  """The compiled programs of a run, each made once.

  Attributes:
    doubt: a segmenter whose results `doubt_maps` reads.
    certain: a segmenter that gives labels uint8 [H,W] and probabilities float32 [H,W,K].
    features: collects those of pictures.
    n: the number of networks.
    classes, colors: of the labels.
  """

  doubt: Segmenter
  certain: Segmenter
  features: "Features"
  n: int
  classes: tuple[str, ...]
  colors: tuple[tuple[int, int, int], ...]


def of_run(trained: Trained, how: Protocol) -> Networks:
  """Returns the programs of a run.

  Raises:
    ConfigError: no such network, or networks that classify whole pictures.
  """
  about = trained.dataset
  certain = _certain(trained, how)  # first, as it refuses what cannot segment
  names, colors = tuple(about["classes"]), tuple(map(tuple, about["colors"]))
  return Networks(_doubt(trained, how), certain, _features(trained), trained.n, names, colors)


def _doubt(trained: Trained, how: Protocol) -> Segmenter:
  """Its "classes" are the measures and a channel of ones.

  So whatever a segmenter does to the sum over the windows of a pixel, the quotient by the last
  channel is the mean over them.
  """
  return how.segmenter(
    _doubt_of_windows(trained, how),
    _CHANNELS,
    grid=inference.grid(trained.config, trained.members),
    devices=trained.mesh.size,
    probabilities=True,
  )


def doubt_maps(result: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
  """Returns the measures [H,W,3] of a picture from what the segmenter `doubt` gives."""
  return result[1][..., :-1] / result[1][..., -1:]


def _certain(trained: Trained, how: Protocol) -> Segmenter:
  return how.segmenter(
    inference.make_forward(trained, how.network, **how.views(probabilities=True)),
    len(trained.dataset["classes"]),
    grid=inference.grid(trained.config, trained.members),
    devices=trained.mesh.size,
    probabilities=True,
  )


def _doubt_of_windows(trained: Trained, how: Protocol) -> Forward:
  """Returns forward(images uint8 [B,h,w,C], valid int32 [B,4]) -> [B,h,w,4]; see `_doubt`."""
  views, n = how.views(probabilities=True), trained.n
  forwards = [inference.make_forward(trained, str(k), **views) for k in range(n)]
  chosen = np.array(networks_of(how.network, n))

  @jax.jit
  def measured(every: list[jax.Array]) -> jax.Array:
    stacked = jnp.stack(every)
    found = measures.maps(stacked[chosen].mean(0), stacked)
    return jnp.concatenate((found, jnp.ones_like(found[..., :1])), -1)

  return lambda images, valid: measured([forward(images, valid) for forward in forwards])


class Features:
  """Collects the features of pictures, a batch at a time.

  A feature is the mean over all places of the deepest feature (that of the greatest stride) of the
  encoder of network 0, which sees the whole picture at the size of a training crop: [D].
  """

  def __init__(self, encode: Callable[[np.ndarray], np.ndarray], crop: tuple[int, int]):
    """Args: uint8 [B,h,w,C] -> [B,D]; (h, w)."""
    self._encode, self._crop = encode, crop
    self._waiting: list[np.ndarray] = []
    self._found: list[np.ndarray] = []

  def add(self, image: np.ndarray) -> None:
    """Takes one more picture uint8 [H,W,C]."""
    small = cv2.resize(image, self._crop[::-1], interpolation=cv2.INTER_AREA)
    self._waiting.append(small.reshape(*self._crop, image.shape[-1]))
    if len(self._waiting) == _BATCH:
      self._flush()

  def finish(self) -> np.ndarray:
    """Returns the features [P,D] of all pictures, in their order, and forgets them."""
    if self._waiting:
      self._flush()
    found, self._found = self._found, []
    return np.concatenate(found) if found else np.zeros((0, 0), np.float32)

  def _flush(self) -> None:
    count = len(self._waiting)
    images = np.zeros((_BATCH, *self._waiting[0].shape), np.uint8)
    images[:count] = self._waiting
    self._waiting = []
    self._found.append(np.asarray(self._encode(images))[:count])


def _features(trained: Trained) -> Features:
  member, params, stats = trained.network(0)
  config, info = trained.config, member.stack.network.feature_info
  deepest = max(reversed(info), key=lambda name: info[name][0])

  @jax.jit
  def run(params: dict, stats: dict, images: jax.Array) -> jax.Array:
    x = normalize(images, None, tuple(config.data.mean), tuple(config.data.std))
    streams = {"images": nets.seen_by(member, x)}
    found, _ = stacks.encode(member.stack, params, stats, streams, bn="eval", grad=False)
    return found["images"][deepest][0].astype(jnp.float32).mean((1, 2))

  return Features(lambda images: run(params, stats, images), tuple(config.data.crop))
