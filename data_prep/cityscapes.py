"""Cityscapes -> shards, from the official archives as they are, or from their folders.

  python -m data_prep.cityscapes --source DOWNLOADS --out data/cityscapes

A source is leftImg8bit_trainvaltest.zip, gtFine_trainvaltest.zip, leftImg8bit_trainextra.zip,
gtCoarse.zip, a folder that holds these, or what was unpacked from them; or the flat folder of the
CPS data release (images/SPLIT/ID.png and segmentation/SPLIT/ID_gtFine.png, with train ids).
--source is repeatable, nothing is unpacked to disk.

An id is CITY_SEQUENCE_FRAME. The lists train, val, test and train_extra are made, each sorted;
pictures of test, and of train_extra without coarse labels, are unlabeled:
`--config.data.unlabeled=train_extra` trains with them. Label ids become the 19 train ids by the
official table, all others are ignored. What an official label file holds is told by its name,
*_labelIds.png or *_labelTrainIds.png; if a picture has both, labelIds are taken.

The lists labeled_1_16 to labeled_1_2 of CPS follow from the order of its train.txt:

  python -m data_prep.splits --dataset data/cityscapes --order config_new/train.txt \\
      --rule every --ratio 16 8 4 2 --add
"""

import argparse
import os
import pathlib
import re
import sys
from collections.abc import Callable, Collection, Sequence

import numpy as np

from data_prep import command
from data_prep.shards.convert import Loaded, add_flags, convert, report, source_error
from data_prep.sources import pairs
from data_prep.sources.archives import Member, list_members
from data_prep.sources.pairs import Pair
from semiseg_jax import arguments
from semiseg_jax.data import pictures
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.data.list_files import DEFECTIVE
from semiseg_jax.errors import DataError
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted

# In the order of the train ids: label id, name, color.
CLASSES = (
  (7, "road", (128, 64, 128)),
  (8, "sidewalk", (244, 35, 232)),
  (11, "building", (70, 70, 70)),
  (12, "wall", (102, 102, 156)),
  (13, "fence", (190, 153, 153)),
  (17, "pole", (153, 153, 153)),
  (19, "traffic light", (250, 170, 30)),
  (20, "traffic sign", (220, 220, 0)),
  (21, "vegetation", (107, 142, 35)),
  (22, "terrain", (152, 251, 152)),
  (23, "sky", (70, 130, 180)),
  (24, "person", (220, 20, 60)),
  (25, "rider", (255, 0, 0)),
  (26, "car", (0, 0, 142)),
  (27, "truck", (0, 0, 70)),
  (28, "bus", (0, 60, 100)),
  (31, "train", (0, 80, 100)),
  (32, "motorcycle", (0, 0, 230)),
  (33, "bicycle", (119, 11, 32)),
)
LABEL_IDS = 34  # 0 to 33
COUNTS = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19_998}  # with DEFECTIVE

# --labels -> split -> whose labels. Scores on coarse labels say little, so val is always fine.
LABELS = {
  "fine": {"train": "gtFine", "val": "gtFine"},
  "coarse": {"train": "gtCoarse", "train_extra": "gtCoarse", "val": "gtFine"},
  "fine+coarse": {"train": "gtFine", "train_extra": "gtCoarse", "val": "gtFine"},
}

_ARCHIVES = re.compile(r"(leftImg8bit_train(valtest|extra)|gtFine_trainvaltest|gtCoarse)\.zip")
_SPLIT = "(train|val|test|train_extra)"
_IMAGE = re.compile(rf"(?:(?:.*/)?leftImg8bit/)?{_SPLIT}/[^/]+/([^/]+)_leftImg8bit\.png")
_LABEL = re.compile(
  rf"(?:(?:.*/)?gt(?:Fine|Coarse)/)?{_SPLIT}/[^/]+/([^/]+)_(gtFine|gtCoarse)_(label|labelTrain)Ids\.png"
)
_FLAT_IMAGE = re.compile(rf"(?:.*/)?images/{_SPLIT}/([^/]+)\.png")
_FLAT_LABEL = re.compile(rf"(?:.*/)?segmentation/{_SPLIT}/([^/]+)_(gtFine)\.png")


def train_ids() -> np.ndarray:
  """The official table: int16 [256], label id -> train id or IGNORE, -1 where there is none."""
  table = np.full(256, -1, np.int16)
  table[:LABEL_IDS] = IGNORE
  table[[label_id for label_id, _, _ in CLASSES]] = range(len(CLASSES))
  return table


def prepare(
  sources: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  *,
  labels: str = "fine",
  strict: bool = False,
  name: str | None = None,
  workers: int = 0,
  codec: str = "keep",
  overwrite: bool = False,
  say: Callable[[str], None] = print,
) -> DatasetInfo:
  """Writes the dataset `out`; for the other options see convert.

  Args:
    sources: folders and archives.
    out: the dataset's folder.
    labels: a key of LABELS.
    strict: lists of other lengths than the official ones are an error.
    name, workers, codec, overwrite, say: see convert.

  Raises:
    DataError: no pictures; all that is wrong with names and numbers of files, told
      before any is read and without harm to what a killed preparation left; or all that is wrong
      with their content.
  """
  problems: list[str] = []
  members = list_members(sources, _ARCHIVES)
  images, found = _find(members, LABELS[labels], problems)
  _drop_defective(images, found, say)
  problems += _missing_labels(images, found, LABELS[labels])
  problems += _missing_pictures(images, found, say)
  lists = {split: [id_ for image_split, id_ in images if image_split == split] for split in COUNTS}
  lists = {split: ids for split, ids in lists.items() if ids}
  problems += pairs.check_counts(lists, _official_counts(images), strict, say)
  if problems:
    raise source_error(problems)
  out = pathlib.Path(out)
  info = convert(
    out,
    [Pair(id_, images[s, id_], found.get((s, id_))) for s, ids in lists.items() for id_ in ids],
    load,
    name=name or out.name,
    classes=[name for _, name, _ in CLASSES],
    colors=[color for _, _, color in CLASSES],
    channels=3,
    source_ignore_id=IGNORE,
    source_ids=[label_id for label_id, _, _ in CLASSES],
    lists=lists,
    workers=workers,
    overwrite=overwrite,
    codec=codec,
    say=say,
  )
  report(info, out, say)
  return info


def load(pair: Pair) -> Loaded:
  """A picture and its label in train ids."""
  return pairs.load_pair(pair, read_label)


def read_label(member: Member) -> np.ndarray:
  """A label file as train ids, uint8 [H, W]; its name tells what ids it holds."""
  label = pictures.decode_label(member.read(), member.where)
  if member.name.endswith("_labelIds.png"):
    expected = (
      f"a labelIds file holds 0 to {LABEL_IDS - 1} (255 is of labelTrainIds files); get it from "
      "gtFine_trainvaltest.zip or gtCoarse.zip"
    )
    return pairs.look_up(label, train_ids(), member.where, expected)
  table = np.full(256, -1, np.int16)
  table[: len(CLASSES)] = range(len(CLASSES))
  table[IGNORE] = IGNORE
  expected = f"train ids are 0 to {len(CLASSES) - 1} and {IGNORE}"
  if ((label >= len(CLASSES)) & (label < LABEL_IDS)).any():
    expected += "; these look like label ids, which must stand in files named *_labelIds.png"
  return pairs.look_up(label, table, member.where, expected)


def _find(
  members: Sequence[Member], wanted: dict[str, str], problems: list[str]
) -> tuple[dict[pairs.Key, Member], dict[pairs.Key, Member]]:
  """Pictures and wanted labels by (split, id)."""
  images = pairs.find(members, _IMAGE, problems)
  flat = pairs.find(members, _FLAT_IMAGE, problems)
  if images and flat:
    raise DataError(
      f"the sources hold the official layout ({next(iter(images.values())).where}) and the flat "
      f"one ({next(iter(flat.values())).where}); give one of them"
    )
  if not images and not flat:
    raise DataError(
      f"no pictures in the sources: neither leftImg8bit/SPLIT/CITY/ID_leftImg8bit.png nor "
      f"images/SPLIT/ID.png, SPLIT being one of {', '.join(COUNTS)}; correct --source"
    )
  found = pairs.find(members, _LABEL if images else _FLAT_LABEL, problems)
  labels: dict[pairs.Key, Member] = {}
  for (split, id_, whose, *_), member in found.items():  # 'label' comes before 'labelTrain'
    if wanted.get(split) == whose:
      labels.setdefault((split, id_), member)
  return images or flat, labels


def _drop_defective(
  images: dict[pairs.Key, Member], labels: dict[pairs.Key, Member], say: Callable[[str], None]
) -> None:
  """Takes the defective picture out, and its label, also where somebody has removed it."""
  key = ("train_extra", DEFECTIVE)
  if key in images:
    picture = pictures.decode_picture(images[key].read(), images[key].where)
    if picture.pixels.min() != picture.pixels.max():
      return
    del images[key]
    say(f"NOTE: {DEFECTIVE} is left out, a picture of one color as it was published")
  labels.pop(key, None)


def _official_counts(images: Collection[pairs.Key]) -> dict[str, int]:
  dropped = ("train_extra", DEFECTIVE) not in images
  return COUNTS | {"train_extra": COUNTS["train_extra"] - dropped}


def _missing_labels(
  images: dict[pairs.Key, Member], labels: dict[pairs.Key, Member], wanted: dict[str, str]
) -> list[str]:
  problems = []
  for split, whose in wanted.items():
    keys = [key for key in images if key[0] == split]
    without = [key for key in keys if key not in labels]
    if keys and len(without) == len(keys):
      problems.append(
        f"none of {counted(len(keys), 'picture')} of {split} has a {whose} label; add the --source "
        "with "
        f"the files *_{whose}_labelIds.png (_color and _instanceIds files are no class labels)"
      )
      continue
    problems += [
      f"{images[key].where} has no {whose} label; add {key[1]}_{whose}_labelIds.png or remove it"
      for key in without
    ]
  return problems


def _missing_pictures(
  images: dict[pairs.Key, Member], labels: dict[pairs.Key, Member], say: Callable[[str], None]
) -> list[str]:
  """Labels of a split without any picture are left out, as gtCoarse.zip holds those of several."""
  present = {split for split, _ in images}
  absent = sorted({split for split, _ in labels} - present)
  if absent:
    say(f"NOTE: there are labels but no pictures of {', '.join(absent)}; these are left out")
  return [
    f"{labels[split, id_].where} has no picture; add it or remove this label"
    for split, id_ in labels
    if split in present and (split, id_) not in images
  ]


def _parse(argv: list[str]) -> argparse.Namespace:
  parser = arguments.Parser(
    "data_prep.cityscapes",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "--source",
    action="append",
    required=True,
    dest="sources",
    metavar="PATH",
    help="a zip, or a folder of zips or files; repeatable",
  )
  parser.add_argument("--out", required=True, help="the dataset's folder, which must not exist")
  parser.add_argument(
    "--labels",
    choices=tuple(LABELS),
    default="fine",
    help="a picture has one label in a dataset. fine: gtFine for train, train_extra unlabeled; "
    "coarse: gtCoarse for both; fine+coarse: gtFine for train, gtCoarse for train_extra. val is "
    "always gtFine, test never labeled (%(default)s)",
  )
  parser.add_argument(
    "--strict", action="store_true", help="lists must have the official numbers of pictures"
  )
  parser.add_argument("--name", help="the dataset's name, by default that of its folder")
  add_flags(parser)
  return parser.parse_args(argv)


def main(argv: list[str]) -> None:
  """The command; ends with status 1 and the message when something is wrong with the data."""
  options = vars(_parse(argv))
  with command.ending():
    prepare(options.pop("sources"), options.pop("out"), **options)


if __name__ == "__main__":
  main(sys.argv[1:])
