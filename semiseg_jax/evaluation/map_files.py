"""The files that predictions become: OUT/KIND/NAME, each whole or not there.

labels         PNG of ids, gray; also a GeoTIFF where the picture is one
palette        PNG of the same ids, which viewers show in the colors of the classes
color          PNG, RGB, of these colors
overlay        PNG, RGB: the picture under them
confidence     PNG, gray: the rounded 255-fold of the label's probability; GeoTIFF as labels
disagreement   PNG, gray: of the networks, see `maps.divergence`; GeoTIFF as labels
probabilities  .npy, float16 [H,W,K], K the classes in their order; of k classes alone .npz with
               `classes` and `probabilities`, uint8 [H,W,k] each, see `maps.Maps`
"""

import dataclasses
import io
import pathlib
import tempfile
from collections.abc import Callable, Sequence

import numpy as np

from semiseg_jax import files, leftovers, memory
from semiseg_jax.data import large_png, tiff
from semiseg_jax.errors import ConfigError, DataError, OptionError
from semiseg_jax.evaluation import geotiff, pictures
from semiseg_jax.evaluation.labeled_files import Done
from semiseg_jax.evaluation.maps import Maps, Wanted
from semiseg_jax.evaluation.windows import Size
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted

KINDS = (
  "labels", "palette", "color", "overlay", "confidence", "disagreement", "probabilities"
)  # fmt: skip
USUAL = ("labels", "color", "overlay")
_MOST_BYTES = 1 << 30  # of the probabilities of a picture


def wanted(kinds: Sequence[str], top: int = 0) -> Wanted:
  """Returns the maps that files of these kinds need.

  Raises:
    ConfigError: no kind, an unknown one, or k classes without probabilities.
  """
  unknown = [kind for kind in kinds if kind not in KINDS]
  if unknown or not kinds:
    said = f"{', '.join(map(repr, unknown))}: unknown" if unknown else "nothing"
    raise ConfigError(f"--write {said}; one or more of {','.join(KINDS)}")
  has = "probabilities" in kinds
  if top and not has:
    raise ConfigError(f"--topk {top} is of probabilities: add them to --write")
  return Wanted(
    confidence="confidence" in kinds,
    disagreement="disagreement" in kinds,
    probabilities=has and not top,
    top=top,
  )


def check_size(file: pathlib.Path, size: Size, maps: Wanted, classes: int) -> None:
  """Raises DataError where the probabilities of a picture of `size` (H, W) are too large."""
  each = classes if maps.probabilities else maps.top
  needed = 2 * size[0] * size[1] * each
  if needed > _MOST_BYTES:
    raise DataError(
      f"{file}: {size[1]}x{size[0]} pixels of {counted(each, 'class', 'classes')} are "
      f"{needed / 1e9:.1f} GB of "
      f"probabilities, more than {_MOST_BYTES / 1e9:.1f}; write those of fewer classes (--topk 3), "
      "or confidence"
    )


@dataclasses.dataclass(frozen=True)
class MapFiles:
  """Where results of the chosen kinds go.

  Attributes:
    out: the folder.
    kinds: some of KINDS.
    colors: of the classes.
    ids: [256], what is written for each class and for IGNORE; uint8 or uint16.
  """

  out: pathlib.Path
  kinds: tuple[str, ...]
  colors: pictures.Colors
  ids: np.ndarray

  def prepare(self) -> None:
    """Makes the folders, and clears them of what killed processes left.

    Raises:
      DataError: one cannot be written to, or ids that no palette holds.
    """
    if "palette" in self.kinds and self.ids.dtype != np.uint8:
      raise OptionError(
        "--write palette: a palette has 256 colors, and the ids of the source are larger; leave it "
        "out, or --ids=source"
      )
    leftovers.clear(*(self.out / kind for kind in KINDS), deep=True)
    for kind in self.kinds:
      try:
        (self.out / kind).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.out / kind) as probe:
          probe.write(b"probe")
      except OSError as error:
        raise DataError(
          f"cannot write in {self.out / kind} ({error.strerror}); choose another --out"
        ) from error

  def write(self, name: pathlib.Path, done: Done) -> str | None:
    """Writes all kinds of results of a picture; why not, where memory runs out."""
    try:
      for kind in self.kinds:
        path = self.out / kind / name
        if kind == "probabilities":
          _write_probabilities(path, done.maps)
        elif kind == "palette":
          self._write_palette(path.with_name(f"{path.name}.png"), done)
        else:
          self._write_picture(kind, path, done)
    except MemoryError as error:
      return memory.describe(str(done.file), error)
    return None

  def _write_picture(self, kind: str, path: pathlib.Path, done: Done) -> None:
    maps, size = done.maps, done.maps.labels.shape
    make: dict[str, Callable[[slice], np.ndarray]] = {
      "labels": lambda part: self.ids[maps.labels[part]],
      "color": lambda part: pictures.colorize(maps.labels[part], self.colors),
      "overlay": lambda part: pictures.overlay(
        done.picture.pixels[part], maps.labels[part], self.colors
      ),
      "confidence": lambda part: maps.confidence[part],
      "disagreement": lambda part: maps.disagreement[part],
    }
    pictures.write_png_of_parts(path.with_name(f"{path.name}.png"), size, make[kind])
    nodata = {"labels": int(self.ids[IGNORE]), "confidence": 0, "disagreement": None}
    if kind in nodata and done.file.suffix.lower() in tiff.SUFFIXES:
      place = path.with_name(f"{path.name}.tif")
      geotiff.write_label(place, make[kind](slice(None)), done.file, nodata=nodata[kind])

  def _write_palette(self, path: pathlib.Path, done: Done) -> None:
    table = np.zeros((256, 3), np.uint8)
    table[self.ids] = pictures.colorize(np.arange(256), self.colors)
    rows = lambda part: self.ids[done.maps.labels[part]]
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_bytes(path, large_png.encode(done.maps.labels.shape, rows, table))


def _write_probabilities(path: pathlib.Path, maps: Maps) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  if maps.probabilities is not None:
    with files.whole(path.with_name(f"{path.name}.npy")) as partial, open(partial, "wb") as file:
      np.save(file, maps.probabilities)
    return
  content = io.BytesIO()
  np.savez_compressed(content, classes=maps.top_classes, probabilities=maps.top_probabilities)
  files.write_bytes(path.with_name(f"{path.name}.npz"), content.getvalue())
