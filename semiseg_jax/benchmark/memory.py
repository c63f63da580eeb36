"""The memory of a training step per config, and on which cards it fits.

    python -m semiseg_jax.benchmark --what=memory --config=configs/cps_city.py \\
        --config=configs/unimatch_v2_city.py --config.train.batch_labeled=1

The step is compiled as training runs it, its state donated, and never run; the numbers are XLA's of
that program.  A program for the CPU has other temporaries than one for a GPU (layouts, fusions,
workspaces of convolutions), so there they are an estimate, and the table says so.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from semiseg_jax.arguments import command
from semiseg_jax.benchmark import arguments
from semiseg_jax.config import command_line
from semiseg_jax.errors import ending
from semiseg_jax.labels import IGNORE

CARDS = (16, 24, 40, 80, 141)  # GB of memory
_SHARE = 0.92  # of a card; the rest is the context's, the libraries' and lost between arrays


@dataclasses.dataclass(frozen=True)
class Usage:
  """Bytes of a compiled step.

  Attributes:
    arguments: state and batch.
    outputs: of which `aliased` lie in donated arguments.
    temporaries: activations, gradients, workspaces.
  """

  arguments: int
  outputs: int
  aliased: int
  temporaries: int

  @property
  def peak(self) -> int:
    """What has to be there at once."""
    return self.arguments + self.outputs - self.aliased + self.temporaries


def main(argv: Sequence[str]) -> None:
  """Prints the table."""
  options, configs = _parse(argv)
  import jax

  with ending("benchmark"):
    rows = [(describe(config), usage(config, options.classes)) for config in configs]
  device = jax.devices()[0]
  print("\n".join(table(rows, device.device_kind, device.platform == "cpu")))


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[ConfigDict]]:
  parser = argparse.ArgumentParser(
    prog=f"{command('semiseg_jax.benchmark')} --what=memory",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog="--config.KEY=VALUE changes keys of all of them",
    allow_abbrev=False,
  )
  parser.add_argument(
    "--config", required=True, action="append", help="FILE.py or FILE.py:key=value,...; of a row"
  )
  parser.add_argument(
    "--classes", type=arguments.whole(2, IGNORE), default=21, help="channels of the logits"
  )
  options, rest = parser.parse_known_args(list(argv))
  for argument in rest:
    if not argument.startswith("--config.") or "=" not in argument:
      parser.error(f"{argument}: neither an option nor --config.KEY=VALUE")
  read = lambda file: command_line.read([f"--config={file}", *rest], "benchmark")
  return options, [read(file) for file in options.config]


def describe(config: ConfigDict) -> str:
  """Returns what tells a config from others: name, crop, batch, dtype, rematerialization."""
  height, width = config.data.crop
  labeled, unlabeled = config.train.batch_labeled, config.train.batch_unlabeled
  more = "" if config.model.remat == "none" else f", remat {config.model.remat}"
  return f"{config.name}, {height}x{width}, {labeled}+{unlabeled}, {config.model.dtype}{more}"


def usage(config: ConfigDict, classes: int) -> Usage:
  """Compiles the step of a config for this device and returns XLA's numbers."""
  from semiseg_jax.benchmark import step

  found = step.lowered(config, classes).compile().memory_analysis()
  return Usage(
    found.argument_size_in_bytes,
    found.output_size_in_bytes,
    found.alias_size_in_bytes,
    found.temp_size_in_bytes,
  )


def table(rows: Sequence[tuple[str, Usage]], device: str, estimated: bool) -> list[str]:
  """Returns the lines of a table: what each row takes in GB, and the cards on which it fits.

  Args:
    rows: title and usage.
    device: for which the programs were compiled.
    estimated: whether that is not the device that trains.
  """
  width = max(len(title) for title, _ in rows)
  cards = "".join(f"{f'{card} GB':>8}" for card in CARDS)
  lines = [f"{'':{width}}{'state+batch':>13}{'temporary':>11}{'at once':>9}{cards}"]
  for title, one in rows:
    numbers = (one.arguments, one.temporaries, one.peak)
    sizes = "".join(f"{n / 1e9:{w}.2f}" for n, w in zip(numbers, (13, 11, 9)))
    marks = "".join(f"{'fits' if fits(one, card) else '-':>8}" for card in CARDS)
    lines.append(f"{title:{width}}{sizes}{marks}")
  said = "An ESTIMATE: " if estimated else ""
  return [
    *lines,
    f"GB of 1e9 bytes, of programs compiled for {device}; fits: up to {_SHARE:.0%} of a card.",
    *([f"{said}a program for a GPU has other temporaries than this one."] if estimated else []),
  ]


def fits(one: Usage, card: int) -> Any:
  """Returns whether a step fits on a card of so many GB."""
  return one.peak <= _SHARE * card * 1e9
