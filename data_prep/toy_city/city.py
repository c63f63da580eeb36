"""Makes the toy city: small street scenes with exact labels, in the format of every dataset.

    python -m data_prep.toy_city --out data/toy_city
    python -m data_prep.toy_city --large --out data/toy_town

Every scene has its own time of day, weather, season, materials and camera. About fifteen modes of
light and weather meet several districts, so the few scenes of a small labeled list show only a
part of how a class can look, and the unlabeled ones show the rest.

With `--large` it is a town without fences, poles, signs and people, whose pavement is all that lies
beside the road: six classes, none of them of two pixels, in fair weather, in pictures that are
rendered at twice their size and averaged down.  A tiny network learns it in a minute.
"""

import dataclasses
import functools
import os
from collections.abc import Sequence

import cv2
import numpy as np

from data_prep import command
from data_prep.shards.convert import Loaded, add_flags, convert, report
from data_prep.toy_city.canvas import CLASSES, COLORS, TOWN, majority
from data_prep.toy_city.scene import render_scene
from semiseg_jax import arguments
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.errors import ConfigError
from semiseg_jax.labels import IGNORE

LABELED_SHARES = (2, 4, 8, 16)  # labeled_1_2 is a random half of train, and so on
LABELED_SHARES_OF_TOWN = (*LABELED_SHARES, 32)
SIZE, SIZE_OF_TOWN = (96, 128), (48, 64)
_TRAIN, _VAL, _LISTS = 0, 1, 2  # random streams of one seed
_TOWN_IDS = np.full(256, IGNORE, np.uint8)
for _id, _shown in enumerate(TOWN):
  _TOWN_IDS[list(_shown)] = _id


@dataclasses.dataclass(frozen=True)
class Scene:
  """A scene of a city; the rest as convert wants it of an item."""

  id: str
  index: int
  stream: int
  bytes: int
  stamp: str


def prepare(
  out: str | os.PathLike,
  *,
  seed: int = 0,
  train: int = 480,
  val: int = 96,
  size: tuple[int, int] | None = None,
  large: bool = False,
  workers: int = 0,
  codec: str = "keep",
  overwrite: bool = False,
) -> DatasetInfo:
  """Writes a toy city to the folder `out`; equal arguments give equal records.

  Lists: train, val, and labeled_1_2, labeled_1_4, labeled_1_8, labeled_1_16: nested parts of train,
  the first pictures of one random order; of a town labeled_1_32, too. Training and validation
  scenes are drawn alike.

  Args:
    out: the dataset's folder; it appears only when it is complete.
    seed: another seed is another city.
    train, val: number of scenes, at least 1 each.
    size: height and width of the pictures; None: 96 x 128, of a town 48 x 64.
    large: a town, of the classes TOWN.
    workers, codec, overwrite: see convert.
  """
  size = tuple(size or (SIZE_OF_TOWN if large else SIZE))
  shares = LABELED_SHARES_OF_TOWN if large else LABELED_SHARES
  kept = [ids[0] for ids in TOWN] if large else range(len(CLASSES))
  classes = [CLASSES[k] for k in kept]
  if train < 1 or val < 1 or min(size) < 32:
    raise ConfigError(
      f"a toy city of {train} training and {val} validation scenes of size {size}: "
      "give at least 1 scene each and 32 pixels a side"
    )
  scenes = [
    Scene(f"{name}_{i:04d}", i, stream, size[0] * size[1] * 3, "")
    for name, stream, count in (("train", _TRAIN, train), ("val", _VAL, val))
    for i in range(count)
  ]
  ids = [scene.id for scene in scenes]
  lists = {"train": np.arange(train), "val": np.arange(train, train + val)}
  lists.update(labeled_lists(seed, train, shares))
  info = convert(
    out,
    scenes,
    functools.partial(_load, seed=seed, size=size, large=large),
    name="toy_town" if large else "toy_city",
    classes=classes,
    colors=[COLORS[k] for k in kept],
    channels=3,
    source_ignore_id=None,
    lists={name: [ids[i] for i in rows] for name, rows in lists.items()},
    workers=workers,
    overwrite=overwrite,
    codec=codec,
    statistics=False,  # its published scores are those of ImageNet's normalization
  )
  for name, pixels in info.list_pixels.items():
    _warn_of_absent_classes(name, classes, pixels)
  return info


def labeled_lists(
  seed: int, train: int, shares: Sequence[int] = LABELED_SHARES
) -> dict[str, np.ndarray]:
  """Nested parts of range(train), each sorted: list name -> numbers of its scenes."""
  order = np.random.Generator(np.random.PCG64([seed, _LISTS])).permutation(train)
  return {f"labeled_1_{k}": np.sort(order[: max(1, round(train / k))]) for k in shares}


def _load(scene: Scene, *, seed: int, size: tuple[int, int], large: bool) -> Loaded:
  if not large:
    return Loaded(*render_scene(seed, scene.index, *size, stream=scene.stream))
  height, width = size
  twice = 2 * height, 2 * width
  image, label = render_scene(seed, scene.index, *twice, stream=scene.stream, large=True)
  image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
  return Loaded(image, majority(_TOWN_IDS[label]))


def _warn_of_absent_classes(name: str, classes: Sequence[str], pixels: Sequence[int]) -> None:
  absent = [c for c, count in zip(classes, pixels) if not count]
  if absent:
    print(
      f"Warning: no picture of list {name} shows {', '.join(absent)}; "
      "take another seed or more scenes."
    )


def main(argv: Sequence[str] | None = None) -> None:
  """Command line."""
  parser = arguments.Parser(
    "data_prep.toy_city",
    description=("Makes a dataset of small synthetic street scenes with exact labels."),
  )
  parser.add_argument("--out", required=True, help="folder of the dataset, e.g. data/toy_city")
  parser.add_argument("--seed", type=int, default=0, help="another seed is another city (0)")
  parser.add_argument("--train", type=int, default=480, help="training scenes (480)")
  parser.add_argument("--val", type=int, default=96, help="validation scenes (96)")
  parser.add_argument(
    "--size",
    type=int,
    nargs=2,
    metavar=("H", "W"),
    help="height and width of the pictures (96 128; of a town 48 64)",
  )
  parser.add_argument(
    "--large", action="store_true", help="a town of six classes, without what is thin or small"
  )
  add_flags(parser)
  options = vars(parser.parse_args(argv))
  out = options.pop("out")
  with command.ending():
    report(prepare(out, **options), out)
