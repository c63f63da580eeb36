"""One page of both lists: above what to label next, below it which labels to look at again."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from semiseg_jax.evaluation import pictures
from semiseg_jax.evaluation.pictures import Colors
from semiseg_jax.labels import IGNORE

WIDE, NARROW = 322, 240  # of three panels, of four: rows of both lists have one width
_COLUMNS = 2  # of rows
_GAP, _LINE, _MARGIN = 6, 17, 12
_PAPER, _INK, _FAINT = (255, 255, 255), (30, 30, 30), (110, 110, 110)
_DIFFERS, _SUSPICIOUS = (255, 190, 90), (215, 20, 30)
_FONT, _TITLE_FONT = ImageFont.load_default(12), ImageFont.load_default(17)


@dataclasses.dataclass(frozen=True)
class Row:
  """A picture with what belongs to it.

  Attributes:
    title, note: its rank and name; why it is there.
    panels: uint8 [h,w,3] each, of one size.
  """

  title: str
  note: str
  panels: tuple[np.ndarray, ...]


def panels(
  image: np.ndarray, labels: Sequence[np.ndarray], colors: Colors, width: int
) -> list[np.ndarray]:
  """Returns a picture [H,W,C] and labels [H,W] as they are shown, uint8 [h,width,3] each."""
  shown = [small(np.ascontiguousarray(pictures.visible(image)), width)]
  colored = (pictures.colorize(label, colors) for label in labels)
  return shown + [small(label, width, cv2.INTER_NEAREST) for label in colored]


def small(panel: np.ndarray, width: int, method: int = cv2.INTER_AREA) -> np.ndarray:
  """Returns a map [H,W,...] in the width of a panel."""
  height, full = panel.shape[:2]
  if full < width and method == cv2.INTER_AREA:
    method = cv2.INTER_LINEAR
  return cv2.resize(panel, (width, max(1, round(height * width / full))), interpolation=method)


def suggested_row(title: str, note: str, panels: Sequence[np.ndarray], doubt: np.ndarray) -> Row:
  """Returns picture | prediction | uncertainty.

  Args:
    title, note: see Row.
    panels: picture and prediction, of `panels`.
    doubt: of that size, from 0 (black) to 1 (yellow).
  """
  map_ = np.clip(np.rint(255 * doubt), 0, 255).astype(np.uint8)
  hot = cv2.applyColorMap(map_, cv2.COLORMAP_INFERNO)[..., ::-1]
  return Row(title, note, (*panels, hot))


def suspicious_row(
  title: str,
  note: str,
  image: np.ndarray,
  label: np.ndarray,
  prediction: np.ndarray,
  suggested: np.ndarray,
  boxes: Sequence[tuple[int, int, int, int]],
  colors: Colors,
) -> Row:
  """Returns picture | label | prediction | where they differ.

  The last is gray, orange where label and prediction differ, red where a label is suspicious, with
  frames around its regions.

  Args:
    title, note: see Row.
    image: uint8 [H,W,C].
    label, prediction: uint8 [H,W].
    suggested: uint8 [H,W], as `Judge.suggested`.
    boxes: x, y, width, height of the regions.
    colors: of the classes.
  """
  gray = pictures.visible(image).mean(-1, keepdims=True).astype(np.uint8)
  where = np.repeat(128 + gray // 3, 3, axis=-1)
  where[(label != IGNORE) & (prediction != label)] = _DIFFERS
  for x, y, width, height in boxes:
    inside = where[y : y + height, x : x + width]
    inside[suggested[y : y + height, x : x + width] != IGNORE] = _SUSPICIOUS
  where = small(where, NARROW)
  scale = NARROW / label.shape[1]
  for x, y, width, height in boxes:
    corners = (round(x * scale), round(y * scale)), (
      round((x + width) * scale), round((y + height) * scale))  # fmt: skip
    cv2.rectangle(where, *corners, _INK, 1)
  return Row(title, note, (*panels(image, (label, prediction), colors, NARROW), where))


def page(
  suggested: Sequence[Row],
  suspicious: Sequence[Row],
  heads: tuple[str, str],
  classes: Sequence[str],
  colors: Colors,
) -> np.ndarray:
  """Returns both lists under their heads, and the legend of the classes: uint8 [H,W,3].

  Args:
    suggested, suspicious: rows, some beside each other; a list without any says so by its head.
    heads: of both lists.
    classes, colors: for the legend.
  """
  titles = (("picture", "prediction", "uncertainty"),
            ("picture", "label", "prediction", "where they differ"))  # fmt: skip
  columns = min(_COLUMNS, max(1, len(suggested), len(suspicious)))
  width = columns * _row_width() + _MARGIN
  names = pictures.legend(classes, colors, width - 2 * _MARGIN)
  foot = np.full((names.shape[0] + 2 * _MARGIN, width, 3), _PAPER, np.uint8)
  foot[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = names
  lists = zip((suggested, suspicious), heads, titles)
  return np.concatenate([*(_list(rows, head, named, columns) for rows, head, named in lists), foot])


def _row_width() -> int:
  """Of a row, and the margin on its left."""
  return _MARGIN + 4 * (NARROW + _GAP) - _GAP


def _list(rows: Sequence[Row], head: str, titles: Sequence[str], columns: int) -> np.ndarray:
  lines = [rows[k : k + columns] for k in range(0, len(rows), columns)]
  heights = [2 * _LINE + max(len(row.panels[0]) for row in line) + 2 * _GAP for line in lines]
  top = _MARGIN + 2 * _LINE + _GAP
  size = columns * _row_width() + _MARGIN, top + _LINE * bool(rows) + sum(heights)
  sheet = Image.new("RGB", size, _PAPER)
  draw = ImageDraw.Draw(sheet)
  whole = _shortened(draw, head, size[0] - 2 * _MARGIN, _TITLE_FONT)
  draw.text((_MARGIN, _MARGIN), whole, _INK, font=_TITLE_FONT)
  for k in range(min(columns, len(rows))):
    for i, title in enumerate(titles):
      x = _MARGIN + k * _row_width() + i * (rows[0].panels[0].shape[1] + _GAP)
      draw.text((x, top - _GAP), title, _FAINT, font=_FONT)
  y = top + _LINE
  for line, height in zip(lines, heights):
    for k, row in enumerate(line):
      _draw(sheet, draw, row, _MARGIN + k * _row_width(), y)
    y += height
  return np.asarray(sheet)


def _draw(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: Row, x: int, y: int) -> None:
  room = _row_width() - _MARGIN
  draw.text((x, y), _shortened(draw, row.title, room, _FONT), _INK, font=_FONT)
  draw.text((x, y + _LINE - 2), _shortened(draw, row.note, room, _FONT), _FAINT, font=_FONT)
  for i, panel in enumerate(row.panels):
    place = x + i * (panel.shape[1] + _GAP), y + 2 * _LINE
    sheet.paste(Image.fromarray(np.ascontiguousarray(panel)), place)


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int, font: Any) -> str:
  if draw.textlength(text, font=font) <= width:
    return text
  while text and draw.textlength(text + "…", font=font) > width:
    text = text[:-1]
  return text + "…"
