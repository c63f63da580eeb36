"""The middle of the pictures of a dataset."""

import dataclasses

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.records import Example

Size = tuple[int, int]


class Cropped:
  """A labeled dataset whose pictures are cut to their middle, at most (h, w) = `window` of it.

  The first row is (H - h) // 2, as in UniMatch's `center_crop`.  It has what evaluation
  reads of a dataset.
  """

  def __init__(self, dataset: Dataset, window: Size):
    self._dataset, self._window, self.root = dataset, window, dataset.root
    sizes = tuple(_cut(size, window) for size in dataset.info.sizes)
    self.info = dataclasses.replace(dataset.info, sizes=sizes)

  def index(self, id_: str) -> int:
    """As that of the dataset."""
    return self._dataset.index(id_)

  def read(self, index: int) -> Example:
    """Record `index`, decoded and cut."""
    example = self._dataset.read(index)
    height, width = _cut(example.size, self._window)
    top, left = (example.size[0] - height) // 2, (example.size[1] - width) // 2
    return example.window(top, left, top + height, left + width)


def _cut(size: Size, window: Size) -> Size:
  return min(size[0], window[0]), min(size[1], window[1])
