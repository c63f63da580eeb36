"""The flags of commands that say how pictures are seen."""

import argparse
from typing import Any

from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import protocol, published
from semiseg_jax.evaluation.placing import BORDERS
from semiseg_jax.evaluation.protocol import HIGHEST_SCALE, LOWEST_SCALE
from semiseg_jax.evaluation.windows import Size


def add_protocol_flags(parser: argparse.ArgumentParser) -> None:
  """Adds a flag for each argument of `protocol.from_config`, but for network and batch."""
  parser.add_argument(
    "--protocol",
    metavar="NAME",
    action=_Listed,
    help="as published numbers were measured, such as cps_city; 'list' prints all",
  )
  parser.add_argument(
    "--mode",
    choices=protocol.MODES,
    help="whole pictures, sliding windows, the middle of pictures, or resized whole pictures",
  )
  parser.add_argument(
    "--whole",
    choices=protocol.WHOLE,
    help="how whole pictures are seen: padded to sizes like those of training, as_is, or reflected "
    "at the border up to multiples",
  )
  parser.add_argument(
    "--multiple", type=int, metavar="N", help="of the sides of resized or reflected pictures"
  )
  size = {"type": parse_size, "metavar": "SIZE"}
  parser.add_argument("--window", **size, help="of slide and center_crop: 512 or 512x1024")
  parser.add_argument("--stride", **size, help="default: 2/3 of the window, rounded up")
  parser.add_argument(
    "--border", choices=BORDERS, help="the last windows: shifted back, over zeros beyond, or cut"
  )
  parser.add_argument(
    "--summed",
    choices=protocol.SUMMED,
    help="what is added where windows, views or networks meet; default logits of one network",
  )
  parser.add_argument(
    "--scales",
    type=parse_scale,
    nargs="+",
    metavar="S",
    help="windows, or whole pictures, are seen at these, such as 0.5 0.75 1 1.5 2",
  )
  parser.add_argument(
    "--flip", action=argparse.BooleanOptionalAction, help="they are seen mirrored, too"
  )


def parse_size(text: str) -> Size:
  """'512' -> (512, 512), '512x1024' -> (512, 1024): height x width."""
  sides = text.split("x")
  if len(sides) > 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
    raise argparse.ArgumentTypeError(f"{text!r}: write 512 or 512x1024 (height x width)")
  return int(sides[0]), int(sides[-1])


def parse_scale(text: str) -> float:
  """A scale of views; argparse.ArgumentTypeError outside of [LOWEST_SCALE, HIGHEST_SCALE]."""
  try:
    found = float(text)
  except ValueError:
    found = 0.0
  if not LOWEST_SCALE <= found <= HIGHEST_SCALE:  # nor NaN
    raise argparse.ArgumentTypeError(
      f"{text!r}: write a number from {LOWEST_SCALE} to {HIGHEST_SCALE}, such as 0.75"
    )
  return found


class _Listed(argparse.Action):
  """Takes the name of a published protocol; of 'list' all are printed, and the command ends."""

  def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
    if values == "list":
      print(published.listing())
      parser.exit()
    try:
      published.find(values)
    except ConfigError as error:
      parser.error(str(error))
    setattr(namespace, self.dest, values)
