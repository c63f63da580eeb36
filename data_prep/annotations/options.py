"""The options on annotation files: what their shapes cannot say themselves."""

import argparse
import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class ShapeOptions:
  """What is done with shapes; each None is refused where it would matter.

  Attributes:
    rest: the class of pixels in no shape, or 'ignore'; None: the one called background.
    empty: pictures without any shape are 'unlabeled', or of the 'rest' all over.
    unknown: shapes of classes that the classes file lacks: 'ignore' their pixels, or 'leave' them
      out.
    missing: 'leave' out annotated pictures that are not there.
    order: 'file': the later one of overlapping shapes is seen; 'area': the smaller one. None:
      'area' for COCO, whose order means nothing, and 'file' for others.
    crowd: 'ignore' crowds, or 'class': take them for their class.
    line_width: of lines, and the diameter of points, in pixels; 0 leaves them out.
  """

  rest: str | None = None
  empty: str | None = None
  unknown: str | None = None
  missing: str | None = None
  order: str | None = None
  crowd: str = "ignore"
  line_width: float | None = None


def add_flags(parser: argparse.ArgumentParser) -> None:
  """The flags --shapes_rest and so on."""
  group = parser.add_argument_group("labels that are shapes (COCO JSON, labelme, CVAT, ...)")
  add = group.add_argument
  add(
    "--shapes_rest",
    metavar="CLASS",
    help="of pixels in no shape: a class, 'ignore', or 'background', which becomes the first class "
    "if the classes file has none",
  )
  add("--shapes_empty", choices=("unlabeled", "rest"), help="pictures listed without any shape")
  add("--shapes_unknown", choices=("ignore", "leave"), help="shapes of no class of the file")
  add("--shapes_missing", choices=("leave",), help="leave out annotated pictures that are missing")
  add(
    "--shapes_order",
    choices=("file", "area"),
    help="of shapes that overlap the later one is seen, or the smaller one (for COCO area)",
  )
  add(
    "--shapes_crowd",
    choices=("ignore", "class"),
    default="ignore",
    help="of COCO's crowds (%(default)s)",
  )
  add(
    "--shapes_line_width", type=_width, metavar="PIXELS", help="of lines and points; 0: leave out"
  )


def take_flags(options: argparse.Namespace) -> ShapeOptions:
  """Takes the flags out of parsed options."""
  names = [field.name for field in dataclasses.fields(ShapeOptions)]
  return ShapeOptions(**{name: vars(options).pop(f"shapes_{name}") for name in names})


def given(options: ShapeOptions) -> list[str]:
  """The flags that were set."""
  default = ShapeOptions()
  names = [field.name for field in dataclasses.fields(ShapeOptions)]
  return [f"--shapes_{n}" for n in names if getattr(options, n) != getattr(default, n)]


def _width(text: str) -> float:
  width = float(text)
  if not 0 <= width < math.inf:
    raise argparse.ArgumentTypeError(f"{text}: give a number of pixels, or 0")
  return width
