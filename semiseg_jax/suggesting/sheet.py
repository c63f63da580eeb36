"""One page of both lists: what to label next on the left, which labels to look at on the right."""

import dataclasses
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from semiseg_jax.evaluation import pictures
from semiseg_jax.evaluation.pictures import Colors
from semiseg_jax.labels import IGNORE

_PANEL = 240  # width
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


def panels(image: np.ndarray, labels: Sequence[np.ndarray], colors: Colors) -> list[np.ndarray]:
  """Returns a picture [H,W,C] and labels [H,W] as they are shown, uint8 [h,w,3] each."""
  shown = [small(np.ascontiguousarray(pictures.visible(image)))]
  return shown + [small(pictures.colorize(label, colors), cv2.INTER_NEAREST) for label in labels]


def small(panel: np.ndarray, method: int = cv2.INTER_AREA) -> np.ndarray:
  """Returns a map [H,W,...] in the width of a panel."""
  height, width = panel.shape[:2]
  if width < _PANEL and method == cv2.INTER_AREA:
    method = cv2.INTER_LINEAR
  return cv2.resize(panel, (_PANEL, max(1, round(height * _PANEL / width))), interpolation=method)


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
  where = small(where)
  scale = _PANEL / label.shape[1]
  for x, y, width, height in boxes:
    corners = (round(x * scale), round(y * scale)), (
      round((x + width) * scale), round((y + height) * scale))  # fmt: skip
    cv2.rectangle(where, *corners, _INK, 1)
  return Row(title, note, (*panels(image, (label, prediction), colors), where))


def page(
  suggested: Sequence[Row],
  suspicious: Sequence[Row],
  heads: tuple[str, str],
  classes: Sequence[str],
  colors: Colors,
) -> np.ndarray:
  """Returns both columns under their heads, and the legend of the classes: uint8 [H,W,3].

  Args:
    suggested, suspicious: rows; a column without any says so by its head alone.
    heads: of both columns.
    classes, colors: for the legend.
  """
  titles = (("picture", "prediction", "uncertainty"),
            ("picture", "label", "prediction", "where they differ"))  # fmt: skip
  columns = [
    _column(rows, head, names) for rows, head, names in zip((suggested, suspicious), heads, titles)
  ]
  height = max(len(column) for column in columns)
  joined = np.concatenate([_padded(column, height) for column in columns], axis=1)
  names = pictures.legend(classes, colors, joined.shape[1] - 2 * _MARGIN)
  foot = np.full((names.shape[0] + 2 * _MARGIN, joined.shape[1], 3), _PAPER, np.uint8)
  foot[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] = names
  return np.concatenate([joined, foot])


def _column(rows: Sequence[Row], head: str, titles: Sequence[str]) -> np.ndarray:
  width = len(titles) * (_PANEL + _GAP) - _GAP + 2 * _MARGIN
  top = _MARGIN + 2 * _LINE + _GAP
  height = top + _LINE + sum(2 * _LINE + len(row.panels[0]) + 2 * _GAP for row in rows)
  sheet = Image.new("RGB", (width, height), _PAPER)
  draw = ImageDraw.Draw(sheet)
  draw.text((_MARGIN, _MARGIN), head, _INK, font=_TITLE_FONT)
  for i, title in enumerate(titles if rows else ()):
    draw.text((_MARGIN + i * (_PANEL + _GAP), top - _GAP), title, _FAINT, font=_FONT)
  y = top + _LINE
  for row in rows:
    room = width - 2 * _MARGIN
    draw.text((_MARGIN, y), _shortened(draw, row.title, room), _INK, font=_FONT)
    draw.text((_MARGIN, y + _LINE - 2), _shortened(draw, row.note, room), _FAINT, font=_FONT)
    y += 2 * _LINE
    for i, panel in enumerate(row.panels):
      sheet.paste(Image.fromarray(np.ascontiguousarray(panel)), (_MARGIN + i * (_PANEL + _GAP), y))
    y += len(row.panels[0]) + 2 * _GAP
  return np.asarray(sheet)


def _padded(column: np.ndarray, height: int) -> np.ndarray:
  return np.pad(column, ((0, height - len(column)), (0, 0), (0, 0)), constant_values=_PAPER[0])


def _shortened(draw: ImageDraw.ImageDraw, text: str, width: int) -> str:
  if draw.textlength(text, font=_FONT) <= width:
    return text
  while text and draw.textlength(text + "…", font=_FONT) > width:
    text = text[:-1]
  return text + "…"
