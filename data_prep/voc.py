"""PASCAL VOC 2012 -> shards, with the augmented labels of SBD when they are given.

  python -m data_prep.voc --source VOCtrainval_11-May-2012.tar \\
      --augmented SegmentationClassAug.zip --out data/voc

The source is the official tar as it is, a folder that holds it, or the folder VOCdevkit or VOC2012.
The augmented labels are a zip or folder of PNGs, such as SegmentationClassAug, or SBD's own .mat
files (benchmark.tgz, its folder, or the folder `cls` in it); a folder SegmentationClassAug inside
the source is taken without being asked for. Palette PNGs are read as their indices.

Lists: train (1,464), val (1,449) and trainval as in ImageSets/Segmentation, and train_aug (10,582):
all pictures with an augmented label and those of train, sorted, without those of val. An official
label goes before an augmented one. Labels from .mat files have no border of ignored pixels. Other
pictures of the source are left out, and the JPEG bytes are kept. The lists labeled_1_16 to
labeled_1_2 of CPS:

  python -m data_prep.splits --dataset data/voc --of train_aug --rule every --ratio 16 8 4 2 --add
"""

import argparse
import dataclasses
import os
import pathlib
import re
import sys
from collections.abc import Callable, Sequence

import numpy as np

from data_prep import command
from data_prep.shards.convert import Loaded, add_flags, convert, report, source_error
from data_prep.sources import pairs
from data_prep.sources.archives import Member, list_members
from data_prep.sources.pairs import Pair
from data_prep.sources.sbd_mat import decode_segmentation
from semiseg_jax import arguments
from semiseg_jax.data import pictures
from semiseg_jax.data.class_table import default_color
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.errors import DataError
from semiseg_jax.labels import IGNORE
from semiseg_jax.wording import counted

CLASSES = (
  *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair"),
  *("cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
  *("train", "tvmonitor"),
)
COLORS = ((0, 0, 0), *(default_color(index) for index in range(len(CLASSES) - 1)))
COUNTS = {"train": 1464, "val": 1449, "trainval": 2913, "train_aug": 10_582}

_ARCHIVES = re.compile(r"VOCtrainval_11-May-2012\.tar")
_ROOT = re.compile(r"((?:.*/)?)JPEGImages/[^/]+\.jpg")
_PNG = re.compile(r"(?:.*/)?([^/]+)\.png")
_MAT = re.compile(r"(?:(?:.*/)?cls/)?([^/]+)\.mat")
_HELD = re.compile(r"(^|/)cls/[^/]+\.mat$|\.png$")


@dataclasses.dataclass(frozen=True)
class Files:
  """What the sources hold: pictures, official and augmented labels by id, the official lists."""

  images: dict[str, Member]
  official: dict[str, Member]
  augmented: dict[str, Member]
  lists: dict[str, list[str]]


def prepare(
  source: str | os.PathLike,
  out: str | os.PathLike,
  *,
  augmented: str | os.PathLike | None = None,
  strict: bool = False,
  name: str | None = None,
  workers: int = 0,
  codec: str = "keep",
  overwrite: bool = False,
  say: Callable[[str], None] = print,
) -> DatasetInfo:
  """Writes the dataset `out`; for the other options see convert.

  Args:
    source: the folder or archive of VOC 2012.
    out: the dataset's folder.
    augmented: the folder or archive of augmented labels; None: those in the source, if any.
    strict: lists of other lengths than the published ones are an error.
    name, workers, codec, overwrite, say: see convert.

  Raises:
    DataError: no pictures or no lists; all that is wrong with names and numbers of files, told
      before any is read and without harm to what a killed preparation left; or all that is wrong
      with their content.
  """
  problems: list[str] = []
  files = _find(source, augmented, problems, say)
  lists = _make_lists(files)
  labels = _choose_labels(files, say)
  ids = sorted({id_ for ids in lists.values() for id_ in ids})
  items = [Pair(id_, files.images[id_], labels.get(id_)) for id_ in ids if id_ in files.images]
  problems += [
    f"picture {id_!r} on the lists has no JPEGImages/{id_}.jpg; get it again"
    for id_ in ids
    if id_ not in files.images
  ]
  problems += [
    f"{item.image.where} has no label; get SegmentationClass/{item.id}.png again"
    for item in items
    if item.label is None
  ]
  problems += pairs.check_counts(lists, COUNTS, strict, say)
  if problems:
    raise source_error(problems)
  out = pathlib.Path(out)
  info = convert(
    out,
    items,
    load,
    name=name or out.name,
    classes=CLASSES,
    colors=COLORS,
    channels=3,
    source_ignore_id=IGNORE,
    source_ids=range(len(CLASSES)),
    lists={key: [id_ for id_ in ids if id_ in files.images] for key, ids in lists.items()},
    workers=workers,
    overwrite=overwrite,
    codec=codec,
    say=say,
  )
  report(info, out, say)
  return info


def load(pair: Pair) -> Loaded:
  """A picture and its label."""
  return pairs.load_pair(pair, read_label)


def read_label(member: Member) -> np.ndarray:
  """A label file, PNG or SBD's .mat, as uint8 [H, W], 0 to 20 and IGNORE."""
  data = member.read()
  if member.name.endswith(".mat"):
    label = decode_segmentation(data, member.where)
  else:
    label = pictures.decode_label(data, member.where)
  table = np.full(256, -1, np.int16)
  table[: len(CLASSES)] = range(len(CLASSES))
  table[IGNORE] = IGNORE
  expected = f"VOC labels hold 0 to {len(CLASSES) - 1} and {IGNORE}, as palette or gray index"
  return pairs.look_up(label, table, member.where, f"{expected}; get the file again")


def _find(
  source: str | os.PathLike,
  augmented: str | os.PathLike | None,
  problems: list[str],
  say: Callable[[str], None],
) -> Files:
  members = list_members([source], _ARCHIVES)
  root = _root(members, source)

  def find(pattern: str) -> dict[str, Member]:
    found = pairs.find(members, re.compile(re.escape(root) + pattern), problems)
    return {key[0]: member for key, member in found.items()}

  lists = find(r"ImageSets/Segmentation/(train|val|trainval)\.txt")
  if "val" not in lists:
    raise DataError(
      f"{source} has no {root}ImageSets/Segmentation/val.txt; it is part of the official tar, and "
      "without it validation pictures would be trained on"
    )
  more = (
    find(r"SegmentationClassAug/([^/]+)\.png")
    if augmented is None
    else _augmented(augmented, problems)
  )
  if more and augmented is None:
    say(f"augmented labels: those of {root}SegmentationClassAug in the source")
  return Files(
    images=find(r"JPEGImages/([^/]+)\.jpg"),
    official=find(r"SegmentationClass/([^/]+)\.png"),
    augmented=more,
    lists={name: _read_list(member) for name, member in lists.items()},
  )


def _root(members: Sequence[Member], source: str | os.PathLike) -> str:
  """The folder VOC2012 in the source, '' or with a final '/'."""
  matches = (_ROOT.fullmatch(member.name) for member in members)
  roots = sorted({match[1] for match in matches if match})
  if len(roots) > 1:
    roots = [root for root in roots if root.endswith("VOC2012/")] or roots
  if len(roots) != 1:
    found = f"several: {', '.join(roots)}" if roots else "none"
    raise DataError(
      f"{source} should hold one folder JPEGImages and holds {found}; give the official tar, or "
      "the folder VOC2012, as --source"
    )
  return roots[0]


def _read_list(member: Member) -> list[str]:
  try:
    return member.read().decode("utf-8-sig").split()
  except UnicodeDecodeError as error:
    raise DataError(f"{member.where}: no list of ids ({error}); get it again") from error


def _augmented(path: str | os.PathLike, problems: list[str]) -> dict[str, Member]:
  members = list_members([path], held=_HELD)
  pngs, mats = (pairs.find(members, pattern, problems) for pattern in (_PNG, _MAT))
  if bool(pngs) == bool(mats):
    found = "both PNGs and" if pngs else "neither PNGs nor"
    raise DataError(
      f"augmented labels {path}: {found} files cls/*.mat; give the folder or archive of one kind"
    )
  return {key[0]: member for key, member in (pngs or mats).items()}


def _make_lists(files: Files) -> dict[str, list[str]]:
  lists = dict(files.lists)
  if files.augmented:
    val = set(lists["val"])
    lists["train_aug"] = sorted((files.augmented.keys() | set(lists.get("train", ()))) - val)
  return lists


def _choose_labels(files: Files, say: Callable[[str], None]) -> dict[str, Member]:
  """The official labels of pictures on official lists, the augmented ones of others."""
  listed = {id_ for ids in files.lists.values() for id_ in ids}
  extra = files.official.keys() - listed - files.augmented.keys()
  if extra:
    say(
      f"NOTE: SegmentationClass: {counted(len(extra), 'label')} of pictures on no official list, "
      "left out; if they are augmented ones, give that folder as --augmented: "
      f"{pairs.some(sorted(extra))}"
    )
  # A .mat has no borders, so it cannot stand in for an official label.
  stand_in = {
    id_: member
    for id_, member in files.augmented.items()
    if id_ not in listed or not member.name.endswith(".mat")
  }
  missing = listed & stand_in.keys() - files.official.keys()
  if missing:
    say(
      f"NOTE: {len(missing)} official labels are not there, augmented ones take their places: "
      f"{pairs.some(sorted(missing))}"
    )
  return stand_in | {id_: files.official[id_] for id_ in listed & files.official.keys()}


def _parse(argv: list[str]) -> argparse.Namespace:
  parser = arguments.Parser(
    "data_prep.voc",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument(
    "--source", required=True, metavar="PATH", help="the official tar, VOCdevkit or VOC2012"
  )
  parser.add_argument(
    "--augmented", metavar="PATH", help="SegmentationClassAug or SBD: archive or folder"
  )
  parser.add_argument("--out", required=True, help="the dataset's folder, which must not exist")
  parser.add_argument(
    "--strict", action="store_true", help="lists must have the published numbers of pictures"
  )
  parser.add_argument("--name", help="the dataset's name, by default that of its folder")
  add_flags(parser)
  return parser.parse_args(argv)


def main(argv: list[str]) -> None:
  """The command; ends with status 1 and the message when something is wrong with the data."""
  options = vars(_parse(argv))
  with command.ending():
    prepare(options.pop("source"), options.pop("out"), **options)


if __name__ == "__main__":
  main(sys.argv[1:])
