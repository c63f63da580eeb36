"""What a configured network costs per stage, without data and without compiling anything.

    python -m semiseg_jax.benchmark.summary --config=configs/cps_city.py
    python -m semiseg_jax.benchmark.summary --config=configs/cps_voc.py --size=321,321 \\
      --classes=21 --config.model.backbone=resnet101_v1s --config.model.remat=blocks --parameters

What is counted, and how, says semiseg_jax/benchmark/cost.py.
"""

import sys
from collections.abc import Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags

from semiseg_jax.config import command_line
from semiseg_jax.errors import ConfigError, ending, refuse

_HEADER = ("stage", "parameters", "GFLOP", "resizing", "kept MiB")


def main(argv: Sequence[str]) -> None:
  """Prints the summary; wrong flags end with one line on stderr and status 2."""
  named = argv and not argv[0].startswith("-")  # --what=summary hands on options alone
  options = _parse(argv if named else ["summary", *argv])
  import jax

  jax.config.update("jax_platforms", "cpu")  # nothing runs: an accelerator is left alone
  from semiseg_jax.models.network import build_network

  with ending("summary"):
    size = _size(options)
    network = build_network(
      options.config.model, num_classes=options.classes, in_channels=options.channels
    )
    lines = describe(network, size, options.config.model.remat)
  print("\n".join(lines))
  if options.parameters:
    from clu import parameter_overview

    print(parameter_overview.get_parameter_overview(network.shapes()[0], include_stats=False))


def _parse(argv: Sequence[str]) -> flags.FlagValues:
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment: FILE.py or FILE.py:key=value,...; its block `model` is read.",
    flag_values=values,
    sys_argv=list(argv),
  )
  flags.DEFINE_list(
    "size", None, "Height,width of the pictures; default: the config's crop.", flag_values=values
  )
  flags.DEFINE_integer("classes", 19, "Channels of the logits.", 1, flag_values=values)
  flags.DEFINE_integer("channels", 3, "Channels of the pictures.", 1, flag_values=values)
  flags.DEFINE_bool("parameters", False, "List every parameter as well.", flag_values=values)
  flags.DEFINE_bool("help", False, "Print the flags and stop.", flag_values=values)
  rest = command_line.parse(list(argv), holder, "summary", values)[1:]
  if values.help:
    print(f"{__doc__}\n{values.main_module_help() or values.get_help()}")
    raise SystemExit(0)
  if rest or values.config is None:
    said = f"unexpected arguments {rest}" if rest else "--config=FILE.py is missing"
    refuse(f"summary: {said}.")
  return values


def _size(options: flags.FlagValues) -> tuple[int, int]:
  given = options.config.data.crop if options.size is None else options.size
  try:
    height, width = (int(side) for side in given)
  except (ValueError, OverflowError, TypeError):
    height = width = 0
  if min(height, width) < 1:
    size = ",".join(map(str, given))
    raise ConfigError(f"--size={size}: write height,width in pixels: 512,1024.")
  return height, width


def describe(network: Any, size: tuple[int, int], remat: str) -> list[str]:
  """Returns the lines of the summary of a network on pictures of `size` (height, width).

  `remat` is what its config says; with any rematerialization the totals without it are stated.
  """
  import dataclasses

  from semiseg_jax.benchmark import cost

  costs = cost.stages(network, size)
  total = cost.total(costs)
  rows = [_row(stage, one) for stage, one in costs.items()] + [_row("total", total)]
  again = cost.recomputed_flops(network, size)
  lines = [
    f"{network.name} on {size[0]}x{size[1]}x{network.in_channels}, {network.num_classes} classes, "
    f"{network.dtype.__name__}, remat={remat}; GFLOP and MiB are per picture",
    *_table([_HEADER, *rows]),
    f"training: {(3 * total.flops + again) / 1e9:,.2f} GFLOP per picture, 3 x forward"
    + (f" and {again / 1e9:,.2f} computed again" if network.remat else ""),
  ]
  if network.remat:
    kept = cost.total(cost.stages(dataclasses.replace(network, remat=()), size)).kept
    lines.append(
      f"remat={remat} keeps {total.kept / 2**20:,.1f} MiB per picture, remat=none "
      f"{kept / 2**20:,.1f}; on top comes the inside of one unit at a time"
    )
  return [
    *lines,
    "GFLOP: convolutions and products, a multiply-add is 2, taps on padding count; resizing: "
    "products with constant matrices.",
    "kept: what the backward pass reads, less what elementwise arithmetic makes of it again; "
    "without loss and full-size logits.",
  ]


def _row(stage: str, one: Any) -> tuple[str, ...]:
  numbers = (one.flops / 1e9, one.resize_flops / 1e9)
  return (
    stage,
    f"{one.params:,}",
    *(f"{number:,.2f}" for number in numbers),
    f"{one.kept / 2**20:,.1f}",
  )


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
  widths = [max(map(len, column)) for column in zip(*rows)]
  return [
    "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths)))
    for row in rows
  ]


if __name__ == "__main__":
  main(sys.argv)
