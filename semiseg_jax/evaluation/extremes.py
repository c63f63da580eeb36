"""The pictures on which an evaluation went worst and best, kept in a file beside its result.

    NAME.pictures.zip: index.json, and of picture k: k_image.webp, k_truth.png, k_prediction.png

A name has no step: the next evaluation by the same protocol replaces the file, so that it stays one
however often a run is evaluated.
"""

import bisect
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from semiseg_jax import files, stored_zip
from semiseg_jax.evaluation.pictures import Colors, Shown, visible

SUFFIX = ".pictures.zip"
MOST = 8  # worst ones that are kept, and as many best ones
_ROWS = 512  # that are compared at a time
_SIDE = 400  # pixels of the longer side of what is kept
_FINER = 4  # sides that pictures have, in those that are kept, before they are averaged
_QUALITY = 88
_INDEX = "index.json"


class Ranked(NamedTuple):
  """A picture, reduced, and how it went.

  accuracy: right pixels as a share of the labeled ones.  size: (H, W) of the whole picture.
  """

  row: Shown
  accuracy: float
  size: tuple[int, int]


class Kept(NamedTuple):
  """What a file holds.

  result: name of the result file that the pictures belong to.  worst, best: the worst and the best
  first; with few pictures some are in both.
  """

  result: str
  classes: tuple[str, ...]
  colors: tuple[tuple[int, int, int], ...]
  worst: tuple[Ranked, ...]
  best: tuple[Ranked, ...]


class Extremes:
  """Takes pictures one after the other and keeps the worst and the best.

  Attributes:
    worst, best: the worst and the best first; of equal ones the earlier ones.

  Args of the constructor:
    number: of either, at most.
    classes: their number; a truth outside of them is no label.
  """

  def __init__(self, number: int, classes: int):
    self._number, self._classes = number, classes
    self.worst: list[Ranked] = []
    self.best: list[Ranked] = []

  def take(self, row: Shown) -> None:
    """Takes a picture at its whole size; one without a labeled pixel is neither good nor bad."""
    labeled, right = _counts(row.truth, row.prediction, self._classes) if self._number else (0, 0)
    if not labeled:
      return
    accuracy, one = right / labeled, None
    for kept, sign in ((self.worst, 1), (self.best, -1)):
      if len(kept) == self._number and sign * accuracy >= sign * kept[-1].accuracy:
        continue
      one = one or Ranked(_reduced(row), accuracy, row.prediction.shape)
      bisect.insort(kept, one, key=lambda ranked, sign=sign: sign * ranked.accuracy)
      del kept[self._number :]


def _counts(truth: np.ndarray, prediction: np.ndarray, classes: int) -> tuple[int, int]:
  """Labeled and right pixels; of a large picture some rows at a time."""
  labeled = right = 0
  for start in range(0, len(truth), _ROWS):
    part = truth[start : start + _ROWS]
    known = part < classes
    labeled += int(np.count_nonzero(known))
    right += int(np.count_nonzero(known & (part == prediction[start : start + _ROWS])))
  return labeled, right


def _reduced(row: Shown) -> Shown:
  """The row with its longer side at most `_SIDE`, in arrays of its own."""
  height, width = row.prediction.shape
  share = min(1.0, _SIDE / max(height, width))
  size = (max(1, round(width * share)), max(1, round(height * share)))
  every = max(1, int(1 / share / _FINER))  # of a very large picture no copy is made
  small = lambda x, how: cv2.resize(np.array(x), size, interpolation=how)
  image = small(visible(row.image[::every, ::every]), cv2.INTER_AREA)
  return Shown(row.id, image, *(small(x[::every, ::every], cv2.INTER_NEAREST) for x in row[2:]))


def path_of(result: str | os.PathLike, step: int) -> pathlib.Path:
  """Returns where the pictures of a result file of a step lie."""
  path = pathlib.Path(result)
  before, found, behind = path.stem.rpartition(f"_step_{step}_")
  return path.with_name((f"{before}_{behind}" if found else path.stem) + SUFFIX)


def write(
  path: str | os.PathLike, extremes: Extremes, result: str, classes: Sequence[str], colors: Colors
) -> None:
  """Writes the pictures, whole or not at all; OSError as `files.whole`.

  Args:
    path: as `path_of` gives it.
    extremes: has seen all pictures.
    result: name of the result file.
    classes: names.
    colors: of the classes.
  """
  every = list({id(one): one for one in (*extremes.worst, *extremes.best)}.values())
  place = {id(one): k for k, one in enumerate(every)}
  index = {
    "result": result,
    "classes": list(classes),
    "colors": [[int(c) for c in color] for color in colors],
    "pictures": [{"id": x.row.id, "accuracy": x.accuracy, "size": list(x.size)} for x in every],
    "worst": [place[id(one)] for one in extremes.worst],
    "best": [place[id(one)] for one in extremes.best],
  }
  content = io.BytesIO()
  with zipfile.ZipFile(content, "w") as archive:
    archive.writestr(_member(_INDEX), json.dumps(index, indent=1))
    for k, one in enumerate(every):
      _, image, truth, prediction = one.row
      archive.writestr(_member(f"{k}_image.webp"), encoded(image, "WEBP", quality=_QUALITY))
      archive.writestr(_member(f"{k}_truth.png"), encoded(truth, "PNG"))
      archive.writestr(_member(f"{k}_prediction.png"), encoded(prediction, "PNG"))
  files.write_bytes(path, content.getvalue())


def _member(name: str) -> zipfile.ZipInfo:
  """A name without the time of day: equal pictures are equal files."""
  return zipfile.ZipInfo(name)


def read(path: str | os.PathLike) -> Kept:
  """Returns what a file holds.

  Raises:
    OSError: it cannot be read.
    ValueError: it is damaged.
  """
  try:
    with stored_zip.opened(path) as archive:
      index = json.loads(archive.read(_INDEX))
      every = [_ranked(archive, k, about) for k, about in enumerate(index["pictures"])]
      return Kept(
        str(index["result"]),
        tuple(map(str, index["classes"])),
        tuple((int(r), int(g), int(b)) for r, g, b in index["colors"]),
        tuple(every[k] for k in index["worst"]),
        tuple(every[k] for k in index["best"]),
      )
  except stored_zip.DamagedZipError as error:
    raise ValueError(f"{path} is damaged ({error})") from error


def _ranked(archive: zipfile.ZipFile, k: int, about: dict[str, Any]) -> Ranked:
  names = (f"{k}_image.webp", f"{k}_truth.png", f"{k}_prediction.png")
  image, truth, prediction = (np.asarray(Image.open(io.BytesIO(archive.read(n)))) for n in names)
  if not image.shape[:2] == truth.shape == prediction.shape:
    raise ValueError(f"picture {k} has parts of several sizes")
  row = Shown(str(about["id"]), image, truth, prediction)
  height, width = about["size"]
  return Ranked(row, float(about["accuracy"]), (int(height), int(width)))


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
  """Returns the file of a picture uint8 [H,W] or [H,W,3]; `kind` and options as Pillow has them."""
  content = io.BytesIO()
  Image.fromarray(pixels).save(content, kind, **options)
  return content.getvalue()
