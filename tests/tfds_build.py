"""A tiny tfds build of array_record files, written without TensorFlow from encoded bytes."""

import functools
import io

import numpy as np
from PIL import Image

CLASSES = ("ground", "disc", "box")
COUNTS = {"train": 7, "validation": 4}
PALETTE = [v for i in range(256) for v in (255 - i, i * 7 % 256, i * 13 % 256)]


def picture(number):
  """uint8 [H, W, 3] and label [H, W] of the picture `pic_NUMBER`."""
  rng = np.random.default_rng(number)
  size = (33 + number, 40)
  label = rng.integers(0, 3, size, dtype=np.uint8)
  label[0] = 255
  return rng.integers(0, 256, (*size, 3), dtype=np.uint8), label


def encode(array, kind="PNG", palette=False):
  """A file of the picture."""
  file, image = io.BytesIO(), Image.fromarray(array)
  if palette:
    image.putpalette(PALETTE)
  image.save(file, kind)
  file.seek(0)
  return file


@functools.cache
def _builder():
  import tensorflow_datasets as tfds

  features = tfds.features

  class TinyCity(tfds.core.GeneratorBasedBuilder):
    """Pictures `pic_N`."""

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # looked for in a package, tfds wants importlib_resources, and does not say so

    def __init__(self, *, label, named, channels, **options):
      self._label, self._named, self._channels = label, named, channels
      super().__init__(**options)

    def _info(self):
      mask = {"shape": (None, None, self._channels)}
      kinds = {
        "image": features.Image(shape=(None, None, 3)),
        "segmentation_mask": features.LabeledImage(labels=list(CLASSES), **mask)
        if self._named
        else features.Image(**mask),
        "file_name": features.Text(),
        "kind": features.Text(),
        "boxes": features.Sequence(features.Tensor(shape=(4,), dtype=np.float32)),
      }
      return tfds.core.DatasetInfo(builder=self, features=features.FeaturesDict(kinds))

    def _split_generators(self, _):
      first = COUNTS["train"]
      return {
        "train": self._generate_examples(range(first)),
        "validation": self._generate_examples(range(first, first + COUNTS["validation"])),
      }

    def _generate_examples(self, numbers):
      for number in numbers:
        image, ids = picture(number)
        yield (
          number,
          {
            "image": encode(image),
            "segmentation_mask": self._label(number, ids),
            "file_name": f"pic_{number}.png",
            "kind": "street",
            "boxes": np.zeros((number % 3, 4), np.float32),
          },
        )

  return TinyCity


def write(folder, *, label=lambda _, ids: encode(ids), named=True, channels=1):
  """Writes the build under `folder` and returns its own folder.

  Args:
    folder: the data dir.
    label: (number, label) -> an open file.
    named: whether the label feature knows the class names.
    channels: of the label feature.
  """
  options = {"label": label, "named": named, "channels": channels}
  builder = _builder()(data_dir=str(folder), file_format="array_record", **options)
  builder.download_and_prepare()
  return str(builder.data_dir)
