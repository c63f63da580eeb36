"""Folders as people have them, drawn: parts with defects, satellite, medical and holiday pictures.

    python -m tests.own.made defects DIR      # to try the commands of the README on them

Each function writes a folder and returns the truth: name -> ids [H,W] in the ids of its masks.
"""

import json
import pathlib
import sys
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

Truth = dict[str, np.ndarray]


def defects(root: pathlib.Path, number: int = 120, labeled: int = 12, size: int = 96) -> Truth:
  """Gray parts/part_007.png, masks/part_007_mask.png of 0 and 255 for some; 1 % is a scratch."""
  truth = {}
  for i in range(number):
    rng = np.random.default_rng([i, 1])
    picture, mask = _metal(rng, size), np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(1, 3) if i % 4 else 0):  # every fourth part is good
      _damage(rng, picture, mask)
    truth[f"part_{i:03d}"] = mask
    _save(root / f"parts/part_{i:03d}.png", _shot(rng, picture))
    if i < labeled:
      _save(root / f"masks/part_{i:03d}_mask.png", mask)
  (root / "classes.txt").write_text("good\ndefect\n")
  return truth


def _metal(rng: np.random.Generator, size: int) -> np.ndarray:
  """Brushed metal [H,W]: stripes, light that falls off, sometimes a bolt."""
  stripes = cv2.blur(rng.normal(0, 22, (size, size)), (15, 1))
  y, x = np.mgrid[:size, :size] / size
  picture = 150 + stripes + 30 * (rng.normal() * x + rng.normal() * y)
  for _ in range(rng.integers(0, 3)):
    at = tuple(map(int, rng.integers(8, size - 8, 2)))
    cv2.circle(picture, at, 6, 110.0, -1)
    cv2.circle(picture, at, 3, 175.0, -1)
  return picture


def _damage(rng: np.random.Generator, picture: np.ndarray, mask: np.ndarray) -> None:
  """A scratch that crosses the stripes, or a dent with a bright rim."""
  size = len(picture)
  at, dark = rng.integers(10, size - 10, 2), float(rng.integers(40, 75))
  if rng.random() < 0.5:
    angle, length = rng.uniform(0.5, 2.6), rng.integers(16, 36)
    to = at + (length * np.array([np.cos(angle), np.sin(angle)])).astype(int)
    for drawn, value in ((picture, dark), (mask, 255)):
      cv2.line(drawn, tuple(map(int, at)), tuple(map(int, to)), value, 3)
  else:
    radius = int(rng.integers(4, 7))
    cv2.circle(picture, tuple(map(int, at)), radius, 215.0, -1)
    cv2.circle(picture, tuple(map(int, at)), radius - 1, dark, -1)
    cv2.circle(mask, tuple(map(int, at)), radius, 255, -1)


def satellite(root: pathlib.Path, number: int = 12, size: tuple[int, int] = (64, 80)) -> Truth:
  """tiles/t0.tif of 4 channels of 16 bits up to 4000, and colored masks of every second."""
  colors = {"water": (0, 0, 255), "field": (0, 255, 0), "town": (255, 0, 0)}
  spectra = np.array([[300, 500, 200, 90], [600, 900, 500, 3000], [1500, 1400, 1500, 1700]])
  truth = {}
  for i in range(number):
    rng = np.random.default_rng([i, 2])
    ids = _regions(rng, size, 3)
    bands = spectra[ids] * rng.normal(1, 0.08, (*size, 4)) + rng.normal(0, 40, (*size, 4))
    picture = bands.clip(1, 4000).astype(np.uint16)
    truth[f"t{i}"] = ids
    (root / "tiles").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / f"tiles/t{i}.tif"), picture[..., [2, 1, 0, 3]])
    if i % 2 == 0:
      _save(root / f"masks/t{i}.png", np.array(list(colors.values()), np.uint8)[ids])
  lines = [" ".join([name, *map(str, color)]) for name, color in colors.items()]
  (root / "classes.txt").write_text("\n".join(lines) + "\n")
  return truth


def medical(root: pathlib.Path, patients: int = 6, slices: int = 3) -> Truth:
  """Gray scans/p1_s2.png, and masks/liver/p1_s2.png, masks/tumor/p1_s2.png of 0 and 255."""
  truth, (h, w) = {}, (70, 61)
  y, x = np.mgrid[:h, :w]
  for p in range(patients):
    rng = np.random.default_rng([p, 3])
    center, radius = (35 + rng.integers(-6, 6), 30 + rng.integers(-6, 6)), rng.integers(14, 20)
    for s in range(slices):
      name = f"p{p}_s{s}"
      liver = (y - center[0]) ** 2 + (x - center[1]) ** 2 < (radius - s) ** 2
      tumor = (y - center[0] - 4) ** 2 + (x - center[1] + 3) ** 2 < (3 + s) ** 2
      ids = np.where(tumor & liver, 2, liver.astype(int))
      truth[name] = ids
      _save(root / f"scans/{name}.png", _shot(rng, np.array([40.0, 120, 170])[ids]))
      if p < patients // 2:
        for class_, organ in enumerate(("liver", "tumor"), 1):
          _save(root / f"masks/{organ}/{name}.png", np.uint8(ids == class_) * 255)
  (root / "classes.txt").write_text("body\nliver\ntumor\n")
  return truth


def photos(root: pathlib.Path, number: int = 12) -> Truth:
  """JPEGs of odd sizes, some turned by their EXIF tag; labelme's JSON beside every second."""
  truth = {}
  for i in range(number):
    rng = np.random.default_rng([i, 4])
    h, w = map(int, rng.integers(51, 90, 2))
    ids = np.zeros((h, w), np.uint8)
    x0, y0 = map(int, rng.integers(4, 20, 2))
    x1, y1 = w - 1 - x0, h - 1 - y0
    ids[y0 : y1 + 1, x0 : x1 + 1] = 1
    picture = _shot(rng, np.array([[90.0, 160, 80], [200, 70, 60]])[ids])
    truth[f"img_{i}"] = ids
    turned = i % 3 == 0
    exif = Image.Exif()
    exif[0x0112] = 6 if turned else 1  # 6: to be turned by 90 degrees to the right
    stored = np.ascontiguousarray(np.rot90(picture) if turned else picture)
    (root / "album").mkdir(parents=True, exist_ok=True)
    Image.fromarray(stored).save(root / f"album/img_{i}.jpg", quality=95, exif=exif)
    if i % 2 == 0:
      box = {"label": "dog", "shape_type": "rectangle", "points": [[x0, y0], [x1 + 1, y1 + 1]]}
      about = {"imagePath": f"img_{i}.jpg", "imageHeight": h, "imageWidth": w, "shapes": [box]}
      (root / f"album/img_{i}.json").write_text(json.dumps(about))
  (root / "classes.txt").write_text("background\ndog\n")
  return truth


MADE: dict[str, Callable[..., Truth]] = {
  "defects": defects,
  "satellite": satellite,
  "medical": medical,
  "photos": photos,
}


def _regions(rng: np.random.Generator, size: tuple[int, int], classes: int) -> np.ndarray:
  """Smooth regions of ids [H,W]."""
  noise = [cv2.GaussianBlur(rng.normal(size=size), (0, 0), 9) for _ in range(classes)]
  return np.argmax(noise, 0)


def _shot(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
  """What a camera makes of it: noise and 8 bits."""
  return (picture + rng.normal(0, 6, picture.shape)).clip(0, 255).astype(np.uint8)


def _save(path: pathlib.Path, pixels: np.ndarray) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path)


if __name__ == "__main__":
  MADE[sys.argv[1]](pathlib.Path(sys.argv[2]))
