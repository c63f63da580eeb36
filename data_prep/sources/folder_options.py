"""The options of the preparation of own pictures: what they are, which go together."""

import argparse
import dataclasses
from typing import Any

from data_prep import command
from data_prep.annotations import options as shape_options
from data_prep.annotations.options import ShapeOptions
from data_prep.shards.convert import add_flags
from data_prep.sources import nodata
from data_prep.sources.folder_files import Naming
from data_prep.sources.folder_holdout import HoldOut
from data_prep.sources.folder_pairs import Folders
from semiseg_jax import arguments
from semiseg_jax.data import orientation, picture_bytes, value_ranges
from semiseg_jax.data.class_table import ClassTable
from semiseg_jax.data.writing.dataset_writer import check_list_name
from semiseg_jax.errors import DataError, OptionError


@dataclasses.dataclass(frozen=True)
class Source:
  """What to prepare; the fields are the options of the command.

  Attributes:
    images, labels: folders, searched with their subfolders, may be one; labels None when there are
      none.
    classes: the classes file, see `class_table.read_classes`.
    lists: list name -> file of ids.
    holdout: share of the labeled pictures that becomes 'val' when no such list is given.
    group: what pictures of one group, which lists do not divide, have in common in their ids.
    stratify: each class gets its share of what is held out.
    channels: C, None for that of the first picture that can be read.
    value_range: (low, high) -> 0..255 for pictures that are not 8 bits a channel, or such a pair
      after the other of each band.
    exif: 'turn' or 'ignore' the orientation tags of pictures and labels.
    nodata: 'ignore' or 'keep' pixels of the value that a GeoTIFF gives to those without data; None
      ignores them unless the value is that of a class.
    max_pixels: of the largest picture that is read.
    ignore_id: overrides the classes file's.
    first_id: where a text file of classes begins to count; None: at 0, if labels do not object.
    label_values: the value in labels of each class of the file, in its order.
    label_colors: labels are pictures in exactly the colors of the classes file.
    image_suffix, label_suffix: what file names have after the id, such as '_mask' or '_mask.png';
      other files are left out.
    image_prefix, label_prefix: what they have before it.
    merge_masks: a picture may have several masks, whose values are classes.
    class_masks: a picture may have several masks, each of the class that its name or folder says.
    all_pictures: files with names of masks are pictures.
    shapes: of labels that are shapes in annotation files.
  """

  images: str
  classes: str
  labels: str | None = None
  lists: dict[str, str] = dataclasses.field(default_factory=dict)
  holdout: float = 0.0
  group: str = ""
  stratify: bool = False
  channels: int | None = None
  value_range: tuple[float, ...] | None = None
  exif: str = orientation.TURN
  nodata: str | None = None
  max_pixels: int = picture_bytes.MAX_PIXELS
  ignore_id: int | None = None
  first_id: int | None = None
  label_values: tuple[int, ...] | None = None
  label_colors: bool = False
  image_suffix: str = ""
  label_suffix: str = ""
  image_prefix: str = ""
  label_prefix: str = ""
  merge_masks: bool = False
  class_masks: bool = False
  all_pictures: bool = False
  shapes: ShapeOptions = ShapeOptions()

  def reading(self) -> dict[str, Any]:
    """How files become pictures, as the dataset remembers it: arguments of `read_picture`."""
    chosen = {"exif": self.exif, "nodata": self.nodata or "ignore"}
    if self.value_range is not None:
      chosen["value_range"] = list(self.value_range)
    return chosen

  def folders(self) -> Folders:
    """Where the files are."""
    return Folders(
      self.images,
      self.labels,
      Naming(self.image_prefix, self.image_suffix),
      Naming(self.label_prefix, self.label_suffix),
      several=self.merge_masks or self.class_masks,
      all_pictures=self.all_pictures,
    )

  def hold_out(self) -> HoldOut:
    """What becomes the list 'val'."""
    return HoldOut(self.holdout, self.group, self.stratify)


def check_options(source: Source, table: ClassTable) -> None:
  """DataError for options that cannot be, or not together."""
  if source.label_colors and not table.palette:
    raise DataError(
      f"classes file {source.classes} gives no colors, which --label_colors needs; write 'name r g "
      "b' a line"
    )
  chosen = [
    f"--{name}" for name in ("label_colors", "label_values", "class_masks") if getattr(source, name)
  ]
  if len(chosen) > 1 or (source.merge_masks and source.class_masks):
    chosen += ["--merge_masks"] if source.merge_masks else []
    raise DataError(f"{' and '.join(chosen)} say different things of the labels; give one of them")
  if len(table.names) == 1:
    raise DataError(
      f"classes file {source.classes}: 1 class ({table.names[0]}), from which there is nothing to "
      "tell apart; name what is not of it, too, such as 'background' in a line before it, with "
      "--label_values 0 255 if masks are black and white"
    )
  if source.value_range is not None:
    value_ranges.check(source.value_range)
  if source.max_pixels < 1:
    raise OptionError(f"--max_pixels {source.max_pixels}: give at least 1")
  if source.channels is not None and source.channels < 1:
    raise OptionError(f"--channels {source.channels}: give at least 1")
  if source.stratify and not source.holdout:
    raise OptionError("--stratify says how pictures are held out: give --holdout SHARE, too")
  for name in source.lists:
    check_list_name(name)


def kind_for_range(source: Source, path: str, values: str) -> dict[str, str]:
  """What the dataset remembers besides: the kind of values that the value range is for.

  Args:
    source: the options.
    path: of the first picture.
    values: which it has, see `value_ranges.kind_of`.

  Raises:
    DataError: a range for a picture that is taken as it is.
  """
  if source.value_range is None:
    return {}
  if values == value_ranges.EIGHT_BITS:
    raise OptionError(
      f"--value_range: the first picture, {path}, has 8 bits a channel, which are taken as they "
      "are; leave the option out, or, if others have more bits, convert all to one kind"
    )
  return {"values": values}


def parse(argv: list[str], about: str) -> argparse.Namespace:
  """The options of the command, which `about` describes."""
  parser = arguments.Parser(
    "data_prep.folder",
    description=about,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  _add_places(parser.add_argument_group("what there is, and where it goes"))
  _add_names(parser.add_argument_group("which file is a picture, and which is its label"))
  _add_lists(parser.add_argument_group("lists of pictures"))
  _add_labels(parser.add_argument_group("what the values of labels mean"))
  shape_options.add_flags(parser)
  _add_pictures(parser.add_argument_group("how pictures are read"))
  add_flags(parser)
  options = parser.parse_args(argv)
  pairs = [text.partition("=") for text in options.lists]
  for name, equals, file in pairs:
    if not (name and equals and file):
      parser.error(f"--list {name}{equals}{file}: write NAME=FILE")
  if len({name for name, _, _ in pairs}) < len(pairs):
    parser.error("--list: a name is given twice")
  options.lists = {name: file for name, _, file in pairs}
  options.shapes = shape_options.take_flags(options)
  options.label_values = options.label_values and tuple(options.label_values)
  return options


def _add_places(group: Any) -> None:
  add = group.add_argument
  add("--images", required=True, metavar="DIR", help="folder of pictures, sub-folders count")
  add("--labels", metavar="PATH", help="folder of masks, or annotations: a file or a folder")
  add(
    "--classes",
    required=True,
    metavar="FILE",
    help="text with 'name [r g b]' a line, JSON, YAML, or a tool's own file",
  )
  add("--out", required=True, metavar="DIR", help="the dataset's folder, which must not exist")
  add("--name", help="the dataset's name, by default that of its folder")


def _add_lists(group: Any) -> None:
  add = group.add_argument
  add(
    "--list",
    action="append",
    default=[],
    metavar="NAME=FILE",
    dest="lists",
    help="a named list of ids, e.g. train=, val=, labeled_1_8=; may be given several times",
  )
  add(
    "--holdout",
    type=float,
    default=0.0,
    metavar="SHARE",
    help="share of the labeled pictures that becomes the list 'val', such as 0.1",
  )
  add(
    "--group",
    action=command.Pattern,
    default="",
    metavar="REGEX",
    help="what the ids of one patient, video or part have in common, as 'patient_\\d+' or "
    "'^(.*)_frame': train, val and test do not divide them",
  )
  add("--stratify", action="store_true", help="each class has its share of what is held out")


def _add_pictures(group: Any) -> None:
  add = group.add_argument
  add("--channels", type=int, metavar="C", help="their number, by default that of the first one")
  add(
    "--value_range",
    type=float,
    nargs="+",
    metavar="LOW HIGH",
    help="values that become 0 and 255 in pictures of more than 8 bits: one pair for all bands, or "
    "a pair for each",
  )
  add(
    "--exif",
    choices=orientation.CHOICES,
    default=orientation.TURN,
    help="orientation tags of cameras: turn pictures as viewers do (default), or ignore them, for "
    "masks that were drawn on unturned pictures",
  )
  add(
    "--nodata",
    choices=nodata.CHOICES,
    help="pixels of a GeoTIFF's nodata value: ignore (default) or keep them",
  )
  add(
    "--max_pixels",
    type=int,
    default=picture_bytes.MAX_PIXELS,
    metavar="N",
    help="larger pictures are refused (%(default)s); more takes more memory",
  )


def _add_labels(group: Any) -> None:
  add = group.add_argument
  add(
    "--label_values",
    type=int,
    nargs="+",
    metavar="VALUE",
    help="the values of the classes in labels, in the file's order: 0 255 for black and white",
  )
  add(
    "--label_colors",
    action="store_true",
    help="labels are pictures in the colors of the classes file",
  )
  add("--first_id", type=int, choices=(0, 1), help="the id of the first line of a text file (0)")
  add("--ignore_id", type=int, metavar="ID", help="label of pixels without a class (255)")
  add(
    "--merge_masks",
    action="store_true",
    help="join several masks of a picture (a_mask.png, a_mask_1.png), whose values are classes",
  )
  add(
    "--class_masks",
    action="store_true",
    help="join masks of single classes (a_car.png, a_car_2.png, car/a.png), all but 0 in them; a "
    "later class covers an earlier one, pixels in no mask are of the first class, or ignored where "
    "it has masks",
  )


def _add_names(group: Any) -> None:
  add = group.add_argument
  for what in ("image", "label"):
    add(
      f"--{what}_suffix",
      default="",
      metavar="TEXT",
      help=f"what the names of {what}s have after the id: _mask or _mask.png",
    )
    add(
      f"--{what}_prefix",
      default="",
      metavar="TEXT",
      help=f"what the names of {what}s have before the id",
    )
  add("--all_pictures", action="store_true", help="files with names of masks are pictures, too")
