"""Pictures and masks at a half, a third, ... of their sides, before the preparation.

    python -m data_prep.shrink --images camvid/images --labels camvid/labels --times 2 \\
        --out camvid_half

Writes OUT/images and OUT/labels with the same names and sub-folders, as PNG. A pixel of a picture
is the mean of TIMES x TIMES pixels; one of a mask is the one in their middle, so that no id or
color is made up. Sides that are no multiples are rounded up.
"""

import argparse
import collections
import pathlib
import shutil
import sys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from data_prep import command
from semiseg_jax import arguments, files
from semiseg_jax.errors import DataError
from semiseg_jax.progress import track

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
_PICTURES, _MASKS = ("RGB", "L"), ("L", "P", "RGB", "1")


def picture(image: Image.Image, times: int) -> Image.Image:
  """Returns the means of `times` x `times` pixels, of an upright picture of mode RGB or L."""
  return image.reduce(times)


def mask(image: Image.Image, times: int) -> Image.Image:
  """Returns the middle one of `times` x `times` pixels; mode and palette stay."""
  values = np.asarray(image)
  rows, columns = (np.minimum(np.arange(0, n, times) + times // 2, n - 1) for n in values.shape[:2])
  small = Image.fromarray(values[rows][:, columns])
  if image.mode == "P":
    small.putpalette(image.getpalette())
  return small


def shrink(images: pathlib.Path, labels: pathlib.Path | None, times: int, out: pathlib.Path) -> int:
  """Writes all pictures and masks; returns their number.

  Args:
    images, labels: folders, of which the second may be None.
    times: sides are divided by it.
    out: a folder that does not exist.

  Raises:
    DataError: naming all files that cannot be read or are of another kind; then nothing is kept.
  """
  if out.exists():
    raise DataError(f"--out {out} exists; choose another folder")
  tasks = [(file, images, "images") for file in _files(images)]
  tasks += [(file, labels, "labels") for file in (_files(labels) if labels else ())]
  problems, unfinished = [], files.partial(out)
  try:
    for file, root, kind in track(tasks, total=len(tasks), title="shrinking", stream=sys.stderr):
      place = (unfinished / kind / file.relative_to(root)).with_suffix(".png")
      try:
        _write(file, place, kind, times)
      except (OSError, DataError) as error:
        problems.append(f"{file}: {error}")
    if problems:
      raise DataError.of_all(f"{len(problems)} files cannot be shrunk:", problems)
    files.commit(unfinished, out)
  except BaseException:
    shutil.rmtree(unfinished, ignore_errors=True)
    raise
  return len(tasks)


def _files(root: pathlib.Path) -> list[pathlib.Path]:
  found = sorted(file for file in root.rglob("*") if file.suffix.lower() in _SUFFIXES)
  if not found:
    raise DataError(f"{root}: no pictures there ({', '.join(sorted(_SUFFIXES))})")
  names = collections.Counter(file.with_suffix("") for file in found)
  twice = [str(name) for name, count in names.items() if count > 1]
  if twice:
    raise DataError(f"{root}: names that differ in their suffix alone: {', '.join(twice[:5])}")
  return found


def _write(file: pathlib.Path, place: pathlib.Path, kind: str, times: int) -> None:
  with Image.open(file) as image:
    image.load()
    allowed = _PICTURES if kind == "images" else _MASKS
    if image.mode not in allowed:
      raise DataError(f"mode {image.mode}, not one of {', '.join(allowed)}")
    upright = image if kind == "labels" else ImageOps.exif_transpose(image)
    small = (mask if kind == "labels" else picture)(upright, times)
  place.parent.mkdir(parents=True, exist_ok=True)
  small.save(place)


def main(argv: Sequence[str]) -> None:
  """The command; ends with status 1 and the message when something is wrong with the files."""
  parser = arguments.Parser(
    "data_prep.shrink",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--images", required=True, type=pathlib.Path, metavar="DIR", help="pictures")
  parser.add_argument("--labels", type=pathlib.Path, metavar="DIR", help="masks")
  parser.add_argument("--times", required=True, type=int, help="2 halves the sides")
  parser.add_argument("--out", required=True, type=pathlib.Path, metavar="DIR", help="a new folder")
  options = parser.parse_args(argv)
  if options.times < 2:
    parser.error(f"--times {options.times}: give a number from 2 on")
  with command.ending():
    count = shrink(options.images, options.labels, options.times, options.out)
    print(f"{options.out}: {count} files")


if __name__ == "__main__":
  main(sys.argv[1:])
