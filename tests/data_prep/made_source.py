"""A source for convert that needs no files, at the top of a module so that processes find it."""

import dataclasses
import os
import pathlib
import time

import numpy as np

from data_prep.shards.convert import Loaded
from semiseg_jax.errors import DataError

CLASSES, COLORS = ("road", "sky", "car"), ((1, 2, 3), (4, 5, 6), (7, 8, 9))


@dataclasses.dataclass(frozen=True)
class Made:
  """Picture number `seed`."""

  id: str
  seed: int
  bytes: int = 3 << 20
  stamp: str = "1"


def items(count):
  """`count` pictures of 3 stated MB, so that a shard takes three."""
  return [Made(f"p{i:02d}", i) for i in range(count)]


def picture(seed):
  """uint8 [20, 24, 3] and, for two pictures of three, a label [20, 24]."""
  rng = np.random.default_rng(seed)
  image = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
  label = rng.integers(0, 3, (20, 24), dtype=np.uint8)
  label[0, 0] = 255
  return image, label if seed % 3 else None


def load(item):
  """The picture."""
  return Loaded(*picture(item.seed))


def load_but(item, *, wrong=(), lost=(), class_ids=()):
  """`load`, but with an error of two lines, a missing file, or a class id too high."""
  if item.seed in wrong:
    raise DataError(f"{item.id}: torn\n{item.id}: and wet")
  if item.seed in lost:
    pathlib.Path("/nowhere", item.id).read_bytes()
  image, label = picture(item.seed)
  if item.seed in class_ids:
    label = np.full((20, 24), 7, np.uint8)
  return Loaded(image, label)


def load_until(item, *, gate, stop):
  """`load`, but picture `stop` waits as long as the file `gate` is there, or dies if it says so."""
  while item.seed == stop and os.path.exists(gate):
    if pathlib.Path(gate).read_text() == "die":
      os._exit(9)
    time.sleep(0.01)
  return load(item)


def load_city(item):
  """A picture of the size of Cityscapes', 6 MB uncompressed."""
  image = np.full((1024, 2048, 3), item.seed, np.uint8)
  return Loaded(image, np.zeros((1024, 2048), np.uint8))


def load_big(item, place, after):
  """A picture of noise, half a MB; from number `after` on, once a shard under `place` is done."""
  end = time.monotonic() + 60
  while item.seed >= after and not list(pathlib.Path(place).glob(".d.partial-*/*.json")):
    assert time.monotonic() < end
    time.sleep(0.02)
  noise = np.random.default_rng(item.seed).integers(0, 256, (400, 420, 3), dtype=np.uint8)
  return Loaded(noise, None)
