"""The reference: a PyTorch DataLoader over files with TorchSemiSeg's transform in OpenCV.

In its order: read, mirror, resize all of the picture, normalize in float, crop, pad. Its map of
label edges, which it computes and never uses, is left out.
"""

import pathlib
from collections.abc import Iterator

import cv2
import numpy as np

_SCALES = (0.5, 0.75, 1.0, 1.5, 1.75, 2.0)
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Files:
  """A map-style data set of image/ and label/ files with the same stems."""

  def __init__(self, folder: pathlib.Path, crop: int):
    self._images = sorted((folder / "image").iterdir())
    self._labels = sorted((folder / "label").iterdir())
    self._crop = crop
    self._rng = np.random.default_rng(1)

  def __len__(self) -> int:
    return 1 << 20  # endless

  def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
    index %= len(self._images)
    image = cv2.imread(str(self._images[index]), cv2.IMREAD_COLOR)[:, :, ::-1]
    label = cv2.imread(str(self._labels[index]), cv2.IMREAD_GRAYSCALE)
    return transform(image, label, self._crop, self._rng)


def transform(
  image: np.ndarray, label: np.ndarray, crop: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
  """uint8 RGB [H, W, 3] and [H, W] -> float32 [3, crop, crop] and int64 [crop, crop]."""
  if rng.random() < 0.5:
    image, label = cv2.flip(image, 1), cv2.flip(label, 1)
  scale = _SCALES[rng.integers(len(_SCALES))]
  size = int(image.shape[1] * scale), int(image.shape[0] * scale)
  image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
  label = cv2.resize(label, size, interpolation=cv2.INTER_NEAREST)
  unit = image.astype(np.float32) / 255.0
  centered = unit - _MEAN
  image = centered / _STD
  top, left = (int(rng.integers(0, max(n - crop, 0), endpoint=True)) for n in label.shape)
  image = image[top : top + crop, left : left + crop]
  label = label[top : top + crop, left : left + crop]
  down, across = crop - label.shape[0], crop - label.shape[1]
  sides = (down // 2, down - down // 2, across // 2, across - across // 2)
  image = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT, value=0)
  label = cv2.copyMakeBorder(label, *sides, cv2.BORDER_CONSTANT, value=255)
  return np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32), label.astype(np.int64)


def batches(folder: pathlib.Path, crop: int, batch: int) -> Iterator:
  """Endless batches, read in this process by one thread; ImportError without torch."""
  import torch
  from torch.utils.data import DataLoader

  torch.set_num_threads(1)
  return iter(DataLoader(Files(folder, crop), batch_size=batch, num_workers=0, drop_last=True))
