"""Own pictures -> shards: a folder of pictures, optionally labels, a classes file, lists of ids.

  python -m data_prep.folder --images DIR --labels DIR --classes FILE --out data/mine \\
      --list labeled_1_8=FILE --holdout 0.1

A picture's id is its file name without folder and suffix; its label has the same id. Pictures
without a label are unlabeled. `--help` lists the options.
"""

import argparse
import dataclasses
import functools
import math
import os
import pathlib
import sys
from collections.abc import Callable

from data_prep import command
from data_prep.shards.convert import Loaded, add_flags, convert, report, source_error
from data_prep.sources.folder_files import find_files
from data_prep.sources.folder_lists import make_lists
from semiseg_jax.data import pictures
from semiseg_jax.data.class_table import ClassTable, read_classes
from semiseg_jax.data.dataset import DatasetInfo
from semiseg_jax.data.writing.dataset_writer import check_list_name
from semiseg_jax.errors import SHOWN, DataError


@dataclasses.dataclass(frozen=True)
class Source:
  """What to prepare; the fields are the options of the command.

  Attributes:
    images, labels: folders, searched with their subfolders; labels None when there are none.
    classes: the classes file, see `class_table.read_classes`.
    lists: list name -> file of ids.
    holdout: share of the labeled pictures that becomes 'val' when no such list is given.
    channels: C, None for that of the first picture that can be read.
    value_range: (low, high) -> 0..255 for pictures that are not 8 bits a channel.
    ignore_id: overrides the classes file's.
    label_colors: labels may be RGB pictures in exactly the colors of the classes file.
    image_suffix, label_suffix: what file names have after the id, such as '_mask'; other files
      are left out.
  """

  images: str
  classes: str
  labels: str | None = None
  lists: dict[str, str] = dataclasses.field(default_factory=dict)
  holdout: float = 0.0
  channels: int | None = None
  value_range: tuple[float, float] | None = None
  ignore_id: int | None = None
  label_colors: bool = False
  image_suffix: str = ""
  label_suffix: str = ""


@dataclasses.dataclass(frozen=True)
class Files:
  """A picture and its label, None when there is none; the rest as convert wants it of an item."""

  id: str
  image: str
  label: str | None
  bytes: int
  stamp: str


def prepare(
  source: Source,
  out: str | os.PathLike,
  *,
  name: str | None = None,
  workers: int = 0,
  codec: str = "keep",
  overwrite: bool = False,
  say: Callable[[str], None] = print,
) -> DatasetInfo:
  """Writes the dataset `out` and says what is in it; for the options see convert.

  Raises:
    DataError: options that cannot be, or all that is wrong with files and lists in one message.
  """
  table = read_classes(source.classes, source.ignore_id)
  _check_options(source, table)
  wrong: list[str] = []
  images = find_files(
    source.images, pictures.PICTURE_SUFFIXES, source.image_suffix, "pictures", wrong, say
  )
  labels = {}
  if source.labels is not None:
    labels = find_files(
      source.labels, pictures.LABEL_SUFFIXES, source.label_suffix, "labels", wrong, say
    )
  wrong += _labels_alone(images, labels, source)
  lists = make_lists(source.lists, source.holdout, source.image_suffix, list(images), labels, wrong)
  if wrong:
    say(f"{len(wrong)} files or lists are wrong; reading the others to name all in one message")
  channels = source.channels or _first_channels(source, list(images.values()), wrong)
  out = pathlib.Path(out)
  info = convert(
    out,
    [_item(id_, image, labels.get(id_)) for id_, image in images.items()],
    functools.partial(
      _load,
      table=table,
      channels=channels,
      value_range=source.value_range,
      label_colors=source.label_colors,
    ),
    name=name or out.name,
    classes=table.names,
    colors=table.colors,
    channels=channels,
    source_ignore_id=table.ignore_id,
    lists=lists,
    workers=workers,
    overwrite=overwrite,
    codec=codec,
    problems=wrong,
    say=say,
  )
  report(info, out, say)
  _say_absent_lists(info, say)
  return info


def _check_options(source: Source, table: ClassTable) -> None:
  if source.label_colors and not table.palette:
    raise DataError(f"classes file {source.classes} gives no colors, which --label_colors needs")
  if source.value_range is not None:
    low, high = source.value_range
    if not -math.inf < low < high < math.inf:
      raise DataError(f"--value_range {low:g} {high:g}: LOW must be below HIGH, both finite")
  if source.channels is not None and source.channels < 1:
    raise DataError(f"--channels {source.channels}: give at least 1")
  for name in source.lists:
    check_list_name(name)


def _first_channels(source: Source, images: list[pathlib.Path], wrong: list[str]) -> int:
  """C of the first picture that can be read, of which there should be one among the first."""
  unreadable = []
  for image in images[:SHOWN]:
    try:
      return pictures.read_picture(image, value_range=source.value_range).pixels.shape[2]
    except DataError as error:
      unreadable.append(str(error))
  raise source_error(wrong + unreadable)


def _labels_alone(
  images: dict[str, pathlib.Path], labels: dict[str, pathlib.Path], source: Source
) -> list[str]:
  return [
    f"label {path} has no picture in {source.images}; set --label_suffix or --image_suffix (such "
    "as _mask) if names differ by it, or remove this label"
    for id_, path in labels.items()
    if id_ not in images
  ]


def _item(id_: str, image: pathlib.Path, label: pathlib.Path | None) -> Files:
  stats = [_stat(path) for path in (image, label) if path is not None]
  return Files(
    id_,
    str(image),
    None if label is None else str(label),
    sum(size for size, _ in stats),
    " ".join(f"{size}:{time_ns}" for size, time_ns in stats),
  )


def _stat(path: pathlib.Path) -> tuple[int, int]:
  """Size in bytes and time of change; zeros for what cannot be read, which loading will tell."""
  try:
    stat = os.stat(path)
  except OSError:
    return 0, 0
  return stat.st_size, stat.st_mtime_ns


def _load(
  item: Files,
  *,
  table: ClassTable,
  channels: int,
  value_range: tuple[float, float] | None,
  label_colors: bool,
) -> Loaded:
  """A picture and its label; DataError of all that is wrong with the two."""
  picture = raw = classes = None
  wrong = []
  try:
    picture = pictures.read_picture(item.image, channels=channels, value_range=value_range)
  except DataError as error:
    wrong.append(str(error))
  if item.label is not None:
    try:
      raw = pictures.read_label(item.label, colors=label_colors)
      classes = table.convert(raw, item.label)
    except DataError as error:
      wrong.append(str(error))
  if picture is not None and raw is not None and raw.shape[:2] != picture.pixels.shape[:2]:
    wrong.append(
      f"{item.label}: {raw.shape[1]}x{raw.shape[0]} pixels, its picture {item.image} "
      f"{picture.pixels.shape[1]}x{picture.pixels.shape[0]}; make them one size"
    )
  if wrong:
    raise DataError("\n".join(wrong))
  return Loaded(picture.pixels if picture.file is None else picture.file, classes)


def _say_absent_lists(info: DatasetInfo, say: Callable[[str], None]) -> None:
  if "train" not in info.lists:
    say(
      "NOTE: there is no training list, as all pictures are on the lists 'val' or 'test'; this "
      "dataset is for evaluation only"
    )
  if "val" not in info.lists:
    say(
      "NOTE: there is no validation list, so nothing can be evaluated; give --list val=FILE or "
      "--holdout 0.1 to have one"
    )


def _parse(argv: list[str]) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog="python -m data_prep.folder",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument("--images", required=True, help="folder of pictures")
  parser.add_argument("--labels", help="folder of label files; pictures may lack one")
  parser.add_argument("--classes", required=True, help="JSON, or text with 'name [r g b]' a line")
  parser.add_argument("--out", required=True, help="the dataset's folder, which must not exist")
  parser.add_argument(
    "--list",
    action="append",
    default=[],
    metavar="NAME=FILE",
    dest="lists",
    help="a named list of ids, e.g. train=, val=, labeled_1_8=; repeatable",
  )
  parser.add_argument(
    "--holdout",
    type=float,
    default=0.0,
    metavar="SHARE",
    help="share of the labeled pictures to make the list 'val' of",
  )
  parser.add_argument("--name", help="the dataset's name, by default that of its folder")
  parser.add_argument("--channels", type=int, help="by default those of the first picture")
  parser.add_argument(
    "--value_range",
    type=float,
    nargs=2,
    metavar=("LOW", "HIGH"),
    help="values that become 0 and 255 in pictures of other than 8 bits",
  )
  parser.add_argument("--ignore_id", type=int, help="label of pixels without a class")
  parser.add_argument(
    "--label_colors",
    action="store_true",
    help="labels are RGB pictures in the colors of the classes file",
  )
  parser.add_argument("--image_suffix", default="", help="end of file names after the id")
  parser.add_argument("--label_suffix", default="", help="end of file names after the id")
  add_flags(parser)
  options = parser.parse_args(argv)
  pairs = [text.partition("=") for text in options.lists]
  for name, equals, file in pairs:
    if not (name and equals and file):
      parser.error(f"--list {name}{equals}{file}: write NAME=FILE")
  if len({name for name, _, _ in pairs}) < len(pairs):
    parser.error("--list: a name is given twice")
  options.lists = {name: file for name, _, file in pairs}
  return options


def main(argv: list[str]) -> None:
  """The command; ends with status 1 and the message when something is wrong with the data."""
  options = vars(_parse(argv))
  out = options.pop("out")
  writing = {key: options.pop(key) for key in ("name", "workers", "codec", "overwrite")}
  with command.ending():
    prepare(Source(**options), out, **writing)


if __name__ == "__main__":
  main(sys.argv[1:])
