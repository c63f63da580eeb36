"""Labels as GeoTIFFs that lie where their pictures lie."""

import io
import os
import pathlib

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from semiseg_jax import files
from semiseg_jax.data import orientation, tiff
from semiseg_jax.labels import IGNORE

# Scale, tie points, matrix, keys and their numbers and texts; source: OGC GeoTIFF 1.1, chapter 7.
_SHORT, _DOUBLE, _ASCII = 3, 12, 2
_GEO = {
  33550: _DOUBLE,
  33922: _DOUBLE,
  34264: _DOUBLE,
  34735: _SHORT,
  34736: _DOUBLE,
  34737: _ASCII,
}
_NODATA = 42113


def write_label(
  path: str | os.PathLike,
  label: np.ndarray,
  source: str | os.PathLike,
  nodata: int | None = IGNORE,
) -> bool:
  """Writes class ids or other values, uint8 or uint16 [H, W], with the place of a GeoTIFF.

  Args:
    path: of the file to write.
    label: the ids.
    source: the picture.
    nodata: the id of pixels without data; None where there is none.

  Returns:
    Whether it was written: the source is a GeoTIFF, and its pixels lie as they are stored.

  Raises:
    DataError: the source cannot be read any more.
  """
  page = tiff.first_page(source)
  if page is None or page.orientation != orientation.UPRIGHT:
    return False
  tags = {number: page.tags[number] for number in _GEO if number in page.tags}
  if not tags:
    return False
  directory = ImageFileDirectory_v2()
  absent = {} if nodata is None else {_NODATA: (str(nodata),)}
  for number, value in {**tags, **absent}.items():
    kind = _GEO.get(number, _ASCII)
    directory.tagtype[number] = kind
    directory[number] = value[0] if kind == _ASCII else value
  buffer = io.BytesIO()
  Image.fromarray(label).save(
    buffer, format="TIFF", compression="tiff_adobe_deflate", tiffinfo=directory
  )
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_bytes(path, buffer.getvalue())
  return True
