"""Whether the values of a config are of the kinds its keys stand for, before any rule reads them.

ml_collections keeps the type of a key, but looks into no tuple, and nan is a float to it.
"""

import math
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

# Keys of tuples of texts and of whole numbers; all others hold numbers.
TEXTS = ("data.strong.order", "data.compat", "model.compat", "method.compat")
WHOLE = (
  "profile_steps",
  "data.crop",
  "data.tfds_ignored",
  "eval.window",
  "eval.stride",
  "model.resnet.multi_grid",
  "model.deeplabv2.rates",
  "model.deeplabv3plus.aspp_rates",
  "model.dpt.level_widths",
  "model.pspnet.bins",
)


def wrong_types(config: ConfigDict) -> list[str]:
  """Returns a line for each value that no rule could read."""
  return [line for key, value in leaves(config.to_dict()) for line in _wrong(key, value)]


def leaves(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
  """Yields ('block.key', value)."""
  for key, value in config.items():
    if isinstance(value, dict):
      yield from leaves(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}", value


def _wrong(key: str, value: Any) -> Iterator[str]:
  items = value if isinstance(value, (tuple, list)) else (value,)
  if items is value:
    kind, name = (int, float), "numbers"
    if key in TEXTS or key in WHOLE:
      kind, name = (str, "texts") if key in TEXTS else (int, "whole numbers")
    if any(isinstance(item, bool) or not isinstance(item, kind) for item in items):
      yield f"{key}={value!r}: {name}, with commas between."
      return
  if any(isinstance(item, float) and not math.isfinite(item) for item in items):
    yield f"{key}={value!r}: not a finite number."
  if key.startswith("model.") and any(isinstance(item, int) and item < 0 for item in items):
    yield f"{key}={value!r}: 0 or more."
