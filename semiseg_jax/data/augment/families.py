"""The published augmentation families, and the one that a config chooses.

Geometry only: what changes colors happens on the device (semiseg_jax/ops/photometry.py).

  cps             TorchSemiSeg, of CPS and its siblings
  unimatch        UniMatch, UniMatch V2, FixMatch; with data.base_size ST++
  cac             CAC: labeled crops, and pairs of overlapping crops; CCT
  advsemiseg      AdvSemiSeg, s4GAN on VOC
  contrastiveseg  ContrastiveSeg, the authors' code
  paddleseg       PaddleSeg's, of the ports of CPS, AdvSemiSeg and ContrastiveSeg
  pseudoseg       PseudoSeg
  u2pl            U2PL
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from semiseg_jax.data.augment import sizes
from semiseg_jax.data.augment.crops import (
  Family,
  Fields,
  Rules,
  filled_crop,
  random_crop,
  resized,
  whole_picture,
)
from semiseg_jax.data.augment.pairs import STRIDE, random_pair
from semiseg_jax.data.augment.rare import Rare
from semiseg_jax.data.records import Record
from semiseg_jax.errors import ConfigError

FAMILIES = {
  "cps": Family(True, sizes.factor_truncated, "opencv_linear", False, "center"),
  "unimatch": Family(False, sizes.long_side, "pillow_linear", True, "end"),
  "cac": Family(False, sizes.long_side, "pillow_cubic", False, "end"),
  "advsemiseg": Family(False, sizes.factor_rounded, "opencv_linear", False, "end"),
  "contrastiveseg": Family(False, sizes.factor_and_aspect, "opencv_cubic", False, "random"),
  "paddleseg": Family(False, sizes.factor_rounded, "opencv_linear", False, "end"),
  "pseudoseg": Family(False, sizes.factor_truncated, "pillow_linear", True, "end"),
  "u2pl": Family(True, sizes.factor_of_two_ranges, "opencv_linear", False, "center"),
}
WITH_BASE_SIZE = ("unimatch", "cac")  # they read data.base_size
WITH_PAIRS = ("cac",)
# Of these data.scales is (lowest, highest).
CONTINUOUS = ("unimatch", "cac", "contrastiveseg", "u2pl")
VIEWS = {
  "single": random_crop,
  "pair": random_pair,
  "filled": filled_crop,
  "unscaled": random_crop,
  "whole": whole_picture,
}


def make_augment(
  config: Any, view: str, rare: Rare | None = None
) -> Callable[[Record, np.random.Generator], Fields]:
  """Returns what `config.data` does to the pictures of a stream of `view`.

  Args:
    config: of the run.
    view: 'single' (a crop), 'pair' (two that overlap), 'filled' (a crop without padding),
      'unscaled' (a crop of the picture as it is) or 'whole' (all of it, resized to the crop).
    rare: classes that crops, 'single' or 'unscaled', are laid around; pictures must have labels.

  Raises:
    ConfigError: a view that the family lacks, or a crop that a pair cannot have.
    ValueError: no such view.
  """
  data = config.data
  if view not in VIEWS:
    raise ValueError(f"a stream of view {view!r}: there are {', '.join(VIEWS)}.")
  if view == "pair" and data.augment != "cac":
    raise ConfigError(f"data.augment={data.augment!r} knows no pairs of crops: choose 'cac'.")
  if view == "pair" and any(side % STRIDE for side in data.crop):
    raise ConfigError(f"data.crop={tuple(data.crop)}: a pair needs multiples of {STRIDE}.")
  scales = {"pair": data.pair_scales, "unscaled": (1.0, 1.0)}.get(view, data.scales)
  rules = dataclasses.replace(_rules(data, tuple(scales)), rare=rare)
  return functools.partial(VIEWS[view], rules=rules)


def make_resize(config: Any) -> Callable[[Record], Fields]:
  """Returns what the view 'whole' makes of pictures, never mirrored."""
  return functools.partial(resized, rules=_rules(config.data, ()))


def _rules(data: Any, scales: tuple[float, ...]) -> Rules:
  return Rules(
    family=FAMILIES[data.augment],
    crop=tuple(data.crop),
    scales=scales,
    flip=data.flip,
    base_size=data.base_size,
    fill=tuple(round(255 * m) for m in data.mean) if data.padding == "mean_pixel" else (),
    beyond=int("crop_offset" in data.compat),
  )
