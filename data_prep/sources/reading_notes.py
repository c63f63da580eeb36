"""What is said of how files were read: turned pictures, pixels without data, measured colors."""

from collections.abc import Callable
from typing import Any

import numpy as np

from semiseg_jax.data import orientation
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.data.pictures import Picture
from semiseg_jax.wording import counted

_BANDS = 8  # whose mean and std are shown


def facts(picture: Picture) -> dict[str, int]:
  """What the dataset counts of a picture."""
  found = {}
  if picture.orientation != orientation.UPRIGHT:
    found["turned"] = 1
  if picture.valid is not None:
    found |= {"with_nodata": 1, "nodata": int((~picture.valid).sum())}
  return found


def size_error(
  label_path: str, label: np.ndarray, path: str, picture: Picture, exif: str, **_: Any
) -> str:
  """The line on a label of another size than its picture."""
  height, width = picture.pixels.shape[:2]
  line = (
    f"{label_path}: {label.shape[1]}x{label.shape[0]} pixels, its picture {path} {width}x{height}"
  )
  if picture.orientation == orientation.UPRIGHT:
    return f"{line}; make them one size"
  other = orientation.IGNORE if exif == orientation.TURN else orientation.TURN
  line += f" ({orientation.named(picture.orientation)})"
  if label.shape != (width, height):
    return f"{line}; make them one size"
  where = "unturned pictures" if other == orientation.IGNORE else "pictures as viewers show them"
  return f"{line}; if masks were drawn on {where}, give --exif {other}"


def say_how(info: DatasetInfo, say: Callable[[str], None]) -> None:
  """Says what of the files was changed or left out, and what was measured."""
  turned, without = info.facts.get("turned", 0), info.facts.get("with_nodata", 0)
  if turned and info.reading["exif"] == orientation.TURN:
    say(
      f"NOTE: {turned} of {counted(len(info.ids), 'picture')} with EXIF tags of orientation, "
      "turned "
      "as viewers do; if masks were drawn on unturned pictures, give --exif ignore"
    )
  elif turned:
    say(
      f"NOTE: {turned} of {counted(len(info.ids), 'picture')} with EXIF tags of orientation, which "
      "are "
      "ignored: they stay unturned"
    )
  if without:
    say(
      f"NOTE: {info.facts['nodata']:,} pixels of {counted(without, 'picture')} without data are "
      "ignored, "
      "in labels and where unlabeled pictures are learned from; --nodata keep takes them for others"
    )
  if info.statistics is not None:
    mean, std = (
      ", ".join(f"{value:.3f}" for value in info.statistics[key][:_BANDS])
      + (", ..." if info.channels > _BANDS else "")
      for key in ("mean", "std")
    )
    say(f"  measured over {info.statistics['pictures']} training pictures: mean {mean}, std {std}")
