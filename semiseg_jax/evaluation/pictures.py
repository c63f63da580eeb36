"""Pictures of labels: colors, overlays, and sheets of image | truth | prediction."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from etils import epath
from PIL import Image, ImageDraw, ImageFont

from semiseg_jax import files
from semiseg_jax.data import large_png
from semiseg_jax.data.pictures import encode_png

Colors = Sequence[tuple[int, int, int]]

_IGNORED = (0, 0, 0)
_PAPER, _INK = (255, 255, 255), (30, 30, 30)
_LARGE = 1 << 24  # pixels above which a picture is colored and packed in parts
_ROWS = 64  # that are mixed at a time, in floats
_GAP = 6
_LINE = 18
_FONT_SIZE = 13
_PANEL_WIDTH = (192, 512)  # panels of smaller pictures are enlarged, those of larger ones shrunk


class Shown(NamedTuple):
  """One row of a sheet."""

  id: str
  image: np.ndarray  # uint8 [H,W,C]
  truth: np.ndarray | None  # uint8 [H,W]
  prediction: np.ndarray  # uint8 [H,W]


def colorize(label: np.ndarray, colors: Colors) -> np.ndarray:
  """Colors uint8 [H,W,3] of class ids uint8 [H,W]; ids outside the classes become black."""
  table = np.tile(np.array(_IGNORED, np.uint8), (256, 1))
  table[: len(colors)] = np.asarray(colors, np.uint8)
  return table[label]


def visible(image: np.ndarray) -> np.ndarray:
  """RGB uint8 [H,W,3] of a picture uint8 [H,W,C]: one or two channels as gray, else the first 3."""
  if image.shape[2] < 3:
    return np.repeat(image[..., :1], 3, axis=2)
  return image[..., :3]


def overlay(
  image: np.ndarray, label: np.ndarray, colors: Colors, opacity: float = 0.5
) -> np.ndarray:
  """The picture [H,W,C] under the colors of its label [H,W]: uint8 [H,W,3].

  Pixels outside the classes keep the color of the picture. `opacity` 1 hides the picture.
  """
  shown = np.empty((*label.shape, 3), np.uint8)
  for start in range(0, len(label), _ROWS):
    part = slice(start, start + _ROWS)
    below, above = visible(image[part]), colorize(label[part], colors)
    mixed = np.rint(below * (1 - opacity) + above * opacity)
    shown[part] = np.where((label[part] < len(colors))[..., None], mixed, below)
  return shown


def strip(
  image: np.ndarray,
  truth: np.ndarray | None,
  prediction: np.ndarray,
  colors: Colors,
  others: Sequence[np.ndarray] = (),
) -> np.ndarray:
  """Panels image | truth | predictions side by side: uint8 [H,W',3]; no truth, no panel of it."""
  height, width = prediction.shape
  labels = (truth, prediction, *others)
  panels = [visible(image), *(colorize(label, colors) for label in labels if label is not None)]
  target = min(max(width, _PANEL_WIDTH[0]), _PANEL_WIDTH[1])
  size = (target, max(1, round(height * target / width)))
  methods = [cv2.INTER_AREA if target < width else cv2.INTER_LINEAR] + [cv2.INTER_NEAREST] * len(
    labels
  )
  if target != width:
    panels = [cv2.resize(p, size, interpolation=m) for p, m in zip(panels, methods)]
  gap = np.full((size[1], _GAP, 3), _PAPER, np.uint8)
  pieces = [piece for panel in panels for piece in (panel, gap)][:-1]
  return np.concatenate(pieces, axis=1)


def reduced(row: Shown) -> Shown:
  """The row at the size that its panels have on a sheet, which shows the same of it."""
  height, width = row.prediction.shape
  if width <= _PANEL_WIDTH[1]:
    return row
  size = (_PANEL_WIDTH[1], max(1, round(height * _PANEL_WIDTH[1] / width)))
  small = lambda x, how: None if x is None else cv2.resize(x, size, interpolation=how)
  image = small(np.ascontiguousarray(visible(row.image)), cv2.INTER_AREA)
  return Shown(row.id, image, *(small(x, cv2.INTER_NEAREST) for x in row[2:]))


def sheet(
  rows: Sequence[Shown],
  classes: Sequence[str],
  colors: Colors,
  predictions: Sequence[str] = ("prediction",),
  others: Sequence[Sequence[np.ndarray]] | None = None,
) -> np.ndarray:
  """Strips below one another under column titles, with the legend of the classes: uint8 [H,W,3].

  Args:
    rows: the strips.
    classes, colors: of the labels.
    predictions: the titles of the predictions of a row.
    others: of each row its further predictions, labels as large as the first one.

  Raises:
    ValueError: no rows, or numbers of classes and colors that differ.
  """
  if not rows:
    raise ValueError("a sheet needs at least one picture")
  if len(classes) != len(colors):
    raise ValueError(f"{len(classes)} class names but {len(colors)} colors")
  more = others or [()] * len(rows)
  strips = [strip(*row[1:], colors, also) for row, also in zip(rows, more, strict=True)]
  width = max(s.shape[1] for s in strips)
  names = legend(classes, colors, width)
  height = sum(s.shape[0] + _LINE + _GAP for s in strips) + names.shape[0] + _GAP
  page = Image.new("RGB", (width, height), _PAPER)
  draw, y = ImageDraw.Draw(page), 0
  for row, panels in zip(rows, strips):
    titles = [row.id, *(["truth"] * (row.truth is not None)), *predictions]
    panel_width = (panels.shape[1] - _GAP * (len(titles) - 1)) // len(titles)
    for i, title in enumerate(titles):
      x = i * (panel_width + _GAP)
      draw.text((x, y + 1), _shortened(draw, title, panel_width), _INK, font=_font())
    page.paste(Image.fromarray(panels), (0, y + _LINE))
    y += _LINE + panels.shape[0] + _GAP
  page.paste(Image.fromarray(names), (0, y + _GAP))
  return np.asarray(page)


def legend(classes: Sequence[str], colors: Colors, width: int) -> np.ndarray:
  """Swatches with names, wrapped to `width` pixels: uint8 [H,width,3]."""
  measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
  places, x, y = [], 0, 0
  for name in classes:
    needed = _LINE + int(measure.textlength(name, font=_font())) + 14
    if x and x + needed > width:
      x, y = 0, y + _LINE
    places.append((x, y))
    x += needed
  page = Image.new("RGB", (width, y + _LINE), _PAPER)
  draw = ImageDraw.Draw(page)
  for (x, y), name, color in zip(places, classes, colors):
    box = (x, y + 2, x + _LINE - 6, y + _LINE - 4)
    draw.rectangle(box, fill=tuple(int(c) for c in color), outline=(150, 150, 150))
    draw.text((x + _LINE - 1, y), name, _INK, font=_font())
  return np.asarray(page)


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
  """Cuts the front of a text that does not fit: the end of an id tells more."""
  if draw.textlength(text, font=_font()) <= width:
    return text
  while text and draw.textlength("…" + text, font=_font()) > width:
    text = text[1:]
  return "…" + text


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
  return ImageFont.load_default(_FONT_SIZE)


def write_png_of_parts(
  path: epath.PathLike, size: tuple[int, int], part: Callable[[slice], np.ndarray]
) -> None:
  """Writes a picture of `size` (H, W) as a PNG, of which `part` makes any rows.

  A large one is never there as a whole; a file of this name is always a whole picture.
  """
  if size[0] * size[1] <= _LARGE:
    return write_png(path, part(slice(None)))
  path = epath.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_bytes(path, large_png.encode(size, part))


def write_png(path: epath.PathLike, array: np.ndarray) -> None:
  """Writes `encode_png(array)` so that a file of this name is always a whole picture."""
  path = epath.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  files.write_bytes(path, encode_png(array))
