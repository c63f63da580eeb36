"""A sheet of a dataset's pictures, each beside its colored label, with the classes below."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.records import Example
from semiseg_jax.evaluation.pictures import colorize, visible

_PAPER, _INK, _FAINT = (255, 255, 255), (30, 30, 30), (150, 150, 150)
_IGNORED = (0, 0, 0)
_WIDTH, _GAP, _LINE, _MARGIN = 220, 4, 18, 12
_ASPECT = (0.4, 1.5)  # height by width of the panels; other pictures leave a rim
_COLUMNS, _PICTURES, _UNLABELED_SHARE = 3, 24, 4


def choose(labeled: Sequence[bool], count: int = _PICTURES) -> list[int]:
  """Record numbers spread evenly over a dataset, at most a quarter of them without a label."""
  with_label = [index for index, flag in enumerate(labeled) if flag]
  without = [index for index, flag in enumerate(labeled) if not flag]
  few = min(len(without), max(count // _UNLABELED_SHARE, count - len(with_label)))
  return sorted(_spread(with_label, count - few) + _spread(without, few))


def draw(dataset: Dataset, indices: Sequence[int]) -> np.ndarray:
  """The sheet of some records, uint8 [H, W, 3]; DataError when one is damaged."""
  sizes = [dataset.info.sizes[index] for index in indices]
  aspect = float(np.median([height / width for height, width in sizes]))
  panel = (round(_WIDTH * min(max(aspect, _ASPECT[0]), _ASPECT[1])), _WIDTH)
  cell = (panel[0] + _LINE + _MARGIN, 2 * panel[1] + _GAP + _MARGIN)
  columns = min(_COLUMNS, len(indices))
  rows = -(-len(indices) // columns)
  width = columns * cell[1] + _MARGIN
  legend = _legend(dataset, width - 2 * _MARGIN)
  page = Image.new("RGB", (width, rows * cell[0] + legend.height + 2 * _MARGIN), _PAPER)
  for number, index in enumerate(indices):
    place = (_MARGIN + number % columns * cell[1], _MARGIN + number // columns * cell[0])
    _draw_example(page, place, panel, dataset.read(index), dataset.info.colors)
  page.paste(legend, (_MARGIN, _MARGIN + rows * cell[0]))
  return np.asarray(page)


def _spread(indices: list[int], count: int) -> list[int]:
  places = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int)
  return [indices[place] for place in places]


def _draw_example(
  page: Image.Image,
  place: tuple[int, int],
  panel: tuple[int, int],
  example: Example,
  colors: Sequence[tuple[int, int, int]],
) -> None:
  pen, (x, y), (height, width) = ImageDraw.Draw(page), place, panel
  title = f"{example.id}  {example.size[1]}x{example.size[0]}"
  pen.text((x, y), _shortened(pen, title, 2 * width + _GAP), _INK, font=_font())
  page.paste(_fitted(visible(example.image), panel, cv2.INTER_AREA), (x, y + _LINE))
  x += width + _GAP
  if example.label is not None:
    colored = colorize(example.label, colors)
    page.paste(_fitted(colored, panel, cv2.INTER_NEAREST), (x, y + _LINE))
    return
  pen.rectangle((x, y + _LINE, x + width - 1, y + _LINE + height - 1), outline=_FAINT)
  pen.text((x + width / 2, y + _LINE + height / 2), "no label", _FAINT, font=_font(), anchor="mm")


def _fitted(pixels: np.ndarray, panel: tuple[int, int], shrinking: int) -> Image.Image:
  """The picture as large as the panel allows, in the middle of it."""
  scale = min(panel[0] / pixels.shape[0], panel[1] / pixels.shape[1])
  size = [max(1, round(length * scale)) for length in pixels.shape[1::-1]]
  method = shrinking if scale < 1 else cv2.INTER_NEAREST
  resized = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=method)
  out = Image.new("RGB", panel[::-1], _PAPER)
  out.paste(Image.fromarray(resized), ((panel[1] - size[0]) // 2, (panel[0] - size[1]) // 2))
  return out


def _legend(dataset: Dataset, width: int) -> Image.Image:
  """A swatch, name and share of the labeled pixels for each class, wrapped to the width."""
  info, total = dataset.info, max(sum(dataset.info.class_pixels), 1)
  entries = [
    (color, f"{name} {pixels / total:.1%}")
    for name, color, pixels in zip(
      (*info.classes, "ignored"), (*info.colors, _IGNORED), info.class_pixels
    )
  ]
  pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
  places, x, y = [], 0, 0
  for _, text in entries:
    needed = _LINE + round(pen.textlength(text, font=_font())) + _MARGIN
    if x and x + needed > width:
      x, y = 0, y + _LINE
    places.append((x, y))
    x += needed
  page = Image.new("RGB", (width, y + _LINE), _PAPER)
  pen = ImageDraw.Draw(page)
  for (x, y), (color, text) in zip(places, entries):
    pen.rectangle((x, y + 3, x + 12, y + 15), fill=tuple(color), outline=_FAINT)
    pen.text((x + _LINE, y), text, _INK, font=_font())
  return page


def _shortened(pen: ImageDraw.ImageDraw, text: str, width: int) -> str:
  """Cuts the front of a text that does not fit: the end of an id tells more."""
  cut = text
  while cut and pen.textlength(cut, font=_font()) > width:
    text = text[1:]
    cut = "…" + text
  return cut


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
  return ImageFont.load_default(13)
