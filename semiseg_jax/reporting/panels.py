"""Pictures inside of a page: image, truth, prediction and errors as data URIs."""

import base64
import pathlib
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

from semiseg_jax.evaluation.extremes import Kept, Ranked, encoded
from semiseg_jax.evaluation.pictures import Colors, Shown, overlay
from semiseg_jax.reporting import scales
from semiseg_jax.reporting.markup import Node, el

_SIDE = 340  # pixels of the longer side of a panel
_FINE = 200  # pixels of width below which a picture is shown in its pixels
_SHEET = 900  # pixels of width of a sheet
_MOST_BYTES = 400_000  # of a sheet
_QUALITY = 78
_WRONG = np.array((209, 51, 107), np.uint8)
_OPACITY = 0.6


def uri(pixels: np.ndarray, quality: int = _QUALITY) -> str:
  """Returns a picture uint8 [H,W,3] as the address of itself."""
  content = base64.b64encode(encoded(pixels, "WEBP", quality=quality, method=4)).decode()
  return f"data:image/webp;base64,{content}"


def errors(
  image: np.ndarray, truth: np.ndarray, prediction: np.ndarray, classes: int
) -> np.ndarray:
  """Returns uint8 [H,W,3]: the picture in pale gray, wrong pixels colored, unlabeled ones black.

  Args:
    image: uint8 [H,W,3].
    truth, prediction: uint8 [H,W].
    classes: their number; truth outside of them has no label.
  """
  gray = image.astype(np.float32).mean(2, keepdims=True)
  shown = np.repeat(np.rint(gray * 0.45 + 130), 3, 2).astype(np.uint8)
  shown[truth >= classes] = 0
  shown[(truth < classes) & (truth != prediction)] = _WRONG
  return shown


def picture(ranked: Ranked, colors: Colors) -> Node:
  """Returns a block of a picture: what it is, and four panels."""
  row = _small(ranked)
  kinds = {
    "image": row.image,
    "truth": overlay(row.image, row.truth, colors, _OPACITY),
    "prediction": overlay(row.image, row.prediction, colors, _OPACITY),
    "errors": errors(row.image, row.truth, row.prediction, len(colors)),
  }
  fine = "fine" if row.image.shape[1] < _FINE else None
  height, width = row.prediction.shape
  panels = [
    el(
      "div",
      el(
        "img",
        src=uri(pixels),
        alt=f"{kind} of {row.id}",
        width=width,
        height=height,
        class_=fine,
      ),
      el("span", kind),
    )
    for kind, pixels in kinds.items()
  ]
  said = f" {scales.percent(ranked.accuracy)} % of its labeled pixels are right"
  full = f", {ranked.size[1]} × {ranked.size[0]}"
  title = el("p", el("b", row.id), said, el("span", full, class_="soft"))
  return el("div", title, el("div", panels, class_="panels"), class_="picture")


def _small(ranked: Ranked) -> Shown:
  row = ranked.row
  height, width = row.prediction.shape
  share = min(1.0, _SIDE / max(height, width))
  size = (max(1, round(width * share)), max(1, round(height * share)))
  if share == 1.0:
    return row
  nearest = lambda x: cv2.resize(np.ascontiguousarray(x), size, interpolation=cv2.INTER_NEAREST)
  image = cv2.resize(np.ascontiguousarray(row.image), size, interpolation=cv2.INTER_AREA)
  return row._replace(image=image, truth=nearest(row.truth), prediction=nearest(row.prediction))


def chosen(kept: Kept, number: int) -> tuple[list[Ranked], list[Ranked]]:
  """Returns at most `number` worst and best ones, none in both."""
  worst = list(kept.worst[:number])
  ids = {ranked.row.id for ranked in worst}
  return worst, [ranked for ranked in kept.best[:number] if ranked.row.id not in ids]


def legend(classes: Sequence[str], colors: Colors) -> Node:
  """Returns the colors of the classes, and that of wrong pixels."""
  entries = [*zip(classes, colors), ("wrong, in errors", tuple(_WRONG)), ("no label", (0, 0, 0))]
  dot = lambda rgb: el("span", class_="dot", style=f"background:rgb({','.join(map(str, rgb))})")
  items = [el("li", dot(tuple(int(c) for c in color)), name) for name, color in entries]
  return el("ul", items, class_="legend")


def sheet(path: pathlib.Path) -> Node | None:
  """Returns the sheet of pictures beside a result; None where it is damaged or gone."""
  try:
    with Image.open(path) as opened:
      opened.thumbnail((_SHEET, _SHEET * 4))
      pixels = np.asarray(opened.convert("RGB"))
  except (OSError, ValueError):
    return None
  address = uri(pixels, 70)
  if len(address) > _MOST_BYTES:
    address = uri(pixels, 35)
  return el("img", src=address, alt="image, truth and prediction of pictures", class_="sheet")
