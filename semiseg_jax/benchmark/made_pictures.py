"""Pictures made for measurements: as heavy to decode as photographs of a street, and as large."""

import dataclasses
import pathlib

import cv2
import numpy as np

from semiseg_jax.data.writing.dataset_writer import DatasetWriter

_CLASSES = 19


@dataclasses.dataclass(frozen=True)
class Kind:
  """A data set to be made.

  size: (H, W).
  suffix: of the picture files, '.png' or '.jpg'.
  crop: side of the training crop.
  count: pictures.
  noise: standard deviation of the grain, gray levels: sets the size of the files.
  steps: batches in a round of a measurement.
  """

  size: tuple[int, int]
  suffix: str
  crop: int
  count: int
  noise: float
  steps: int


# PNGs of 2.2 to 2.8 MB as those of Cityscapes, JPEGs of about 100 kB.
KINDS = {
  "cityscapes": Kind((1024, 2048), ".png", 800, 8, 1.0, 4),
  "voc": Kind((375, 500), ".jpg", 512, 48, 12.0, 16),
}


def make(kind: Kind, folder: pathlib.Path) -> None:
  """Writes files (image/, label/), shards (shards/) and raw ones (shards_raw/) of one content."""
  rng = np.random.default_rng(0)
  (folder / "image").mkdir(parents=True)
  (folder / "label").mkdir()
  colors = [(i, i, i) for i in range(_CLASSES)]
  about = {"name": "made", "classes": [f"c{i}" for i in range(_CLASSES)], "colors": colors}
  with (
    DatasetWriter(folder / "shards", **about) as usual,
    DatasetWriter(folder / "shards_raw", **about, codec="raw") as raw,
  ):
    for i in range(kind.count):
      image, label = _picture(kind, rng)
      quality = [cv2.IMWRITE_JPEG_QUALITY, 90] if kind.suffix == ".jpg" else []
      encoded = cv2.imencode(kind.suffix, image, quality)[1].tobytes()
      (folder / "image" / f"{i:03d}{kind.suffix}").write_bytes(encoded)
      cv2.imwrite(str(folder / "label" / f"{i:03d}.png"), label)
      for writer in (usual, raw):
        writer.add(f"{i:03d}", encoded=encoded, label=label)


def _picture(kind: Kind, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
  """Regions of a color each, with soft light, texture of all sizes and grain."""
  height, width = kind.size
  fields = [_smooth((height // 2, width // 2), 6, rng) for _ in range(_CLASSES)]
  coarse = np.argmax(fields, axis=0).astype(np.uint8)
  label = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
  image = rng.uniform(40, 200, (_CLASSES, 3)).astype(np.float32)[label]
  for cells, strength in ((4, 30), (16, 12), (64, 8), (160, 5)):
    image += np.float32(strength) * _smooth(kind.size, cells, rng)[..., None]
  image += kind.noise * rng.standard_normal((height, width, 3), np.float32)
  label[: height // 20] = 255
  return image.clip(0, 255).astype(np.uint8), label


def _smooth(size: tuple[int, int], cells: int, rng: np.random.Generator) -> np.ndarray:
  """A random field [H, W] of so many cells down, about unit variance."""
  height, width = size
  grid = rng.normal(0, 1, (cells, max(cells * width // height, 1))).astype(np.float32)
  return cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
