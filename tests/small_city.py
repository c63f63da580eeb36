"""A data set of a few small pictures, and a config that trains on it in seconds."""

import numpy as np

from configs import cps_toy
from semiseg_jax.config import schema
from semiseg_jax.data.writing.dataset_writer import DatasetWriter

CLASSES = ("ground", "disc", "box")
COLORS = ((128, 64, 128), (220, 20, 60), (0, 0, 142))
# The head of two layers: every run traces and compiles them.
FEW_LAYERS = {
  **{k: e.default for k, e in schema.table().items() if k.startswith("model.deeplabv3plus.")},
  "model.head": "fcn",
}


def write(root, *, pictures=16, val=3, size=(40, 48), seed=0, classes=CLASSES, colors=COLORS):
  """Writes pictures with a disc and a box; lists labeled_1_4, train and val."""
  rng = np.random.default_rng(seed)
  names = [f"{'val' if i < val else 'train'}_{i:02d}" for i in range(pictures + val)]
  with DatasetWriter(root, name="small_city", classes=classes, colors=colors) as writer:
    for name in names:
      writer.add(name, **_picture(rng, size))
    train = [name for name in names if name.startswith("train")]
    writer.lists(train=train, labeled_1_4=train[::4], val=names[:val])


def _picture(rng, size):
  height, width = size
  y, x = np.mgrid[:height, :width]
  label = np.zeros(size, np.uint8)
  cy, cx = rng.integers(8, height - 8), rng.integers(8, width - 8)
  label[(y - cy) ** 2 + (x - cx) ** 2 < 49] = 1
  y0, x0 = rng.integers(0, height - 12), rng.integers(0, width - 12)
  label[y0 : y0 + 12, x0 : x0 + 12] = 2
  image = np.array(COLORS)[label] + rng.normal(0, 20, (height, width, 3))
  return {"image": image.clip(0, 255).astype(np.uint8), "label": label}


def config(root, arg="ratio=1_4", **changes):
  """The toy config, shrunk; `changes` are dotted keys with __ for the dots."""
  c = cps_toy.get_config(arg)
  c.update_from_flattened_dict(FEW_LAYERS)
  c.data.root, c.data.prepare = str(root), ""
  c.data.crop = (32, 32)
  c.train.steps, c.train.log_every = 4, 2
  c.train.batch_labeled = c.train.batch_unlabeled = 2
  c.eval.every, c.eval.pictures, c.eval.batch = 0, 2, 2
  c.checkpoint.every = 2
  c.method.weight_ramp_steps = 0
  c.update_from_flattened_dict({key.replace("__", "."): v for key, v in changes.items()})
  return c
