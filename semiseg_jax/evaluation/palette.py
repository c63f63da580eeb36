"""Labels as palette pictures: their pixels are class ids, what one sees are the classes' colors."""

import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from semiseg_jax import files
from semiseg_jax.evaluation import pictures

LEGEND = "legend.png"
_LEGEND_WIDTH = 512


def write(
  path: str | os.PathLike, labels: np.ndarray, classes: Sequence[str], colors: pictures.Colors
) -> None:
  """Writes labels and, in the same folder, the legend; each whole or not at all.

  Args:
    path: of the PNG.
    labels: uint8 [H,W] of class ids; 255 is ignored and black.
    classes: names, which stand in the text of the PNG as well, one `id name` a line.
    colors: of the classes.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  text = PngInfo()
  text.add_itxt("Classes", "\n".join(f"{k} {name}" for k, name in enumerate(classes)))
  picture, content = Image.fromarray(np.asarray(labels, np.uint8)), io.BytesIO()
  table = pictures.colorize(np.arange(256), colors)
  picture.putpalette(table.ravel().tolist())
  picture.save(content, "PNG", pnginfo=text)
  files.write_bytes(path, content.getvalue())
  legend = pictures.legend(classes, colors, _LEGEND_WIDTH)
  pictures.write_png(path.parent / LEGEND, legend)
