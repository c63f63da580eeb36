"""Evaluation of a large picture in sliding windows, and the plain loop over the same windows.

    python -m semiseg_jax.benchmark --what=eval
    python -m semiseg_jax.benchmark --what=eval --config=configs/cps_city.py --classes=19

The plain loop runs a compiled network on one window at a time and does the rest with numpy: it adds
scores to an array [H,W,K], counts, divides and takes the argmax.  Both take turns in one process,
so that a machine that is slow for a while does not matter.  The picture is noise, and so are the
weights.  With --mode=whole the other one is a compiled network on the picture at its own size, and
its argmax in numpy.

The last line is JSON: medians in seconds, `ratio`, the largest difference of mean scores, how many
labels differ and by how much their scores do, versions, device, and the load of the machine.
"""

import argparse
import functools
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from semiseg_jax import files, sharding, stacks, version
from semiseg_jax.arguments import command
from semiseg_jax.benchmark import arguments
from semiseg_jax.config import command_line
from semiseg_jax.errors import ConfigError, ending
from semiseg_jax.evaluation import inference, protocol
from semiseg_jax.evaluation.placing import IN_WINDOWS, Tile
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.evaluation.protocol_flags import parse_size
from semiseg_jax.labels import IGNORE


def main(argv: Sequence[str]) -> None:
  """Prints what was measured and, with --out, writes it."""
  options, config = _parse(argv)
  with ending("benchmark"):
    found = measure(config, options)
  print(
    f"{found['ratio']:.2f} times as fast as the plain loop: {found['seconds']:.3f} and "
    f"{found['plain']:.3f} s a picture, medians of {options.rounds}; largest difference of mean "
    f"scores {found['difference']:.1e}; {found['labels_differ']} labels differ"
  )
  print(json.dumps(found))
  if options.out:
    files.write_text(options.out, json.dumps(found) + "\n")


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, ConfigDict]:
  parser = argparse.ArgumentParser(
    prog=f"{command('semiseg_jax.benchmark')} --what=eval",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog="--config.KEY=VALUE changes keys of the config",
    allow_abbrev=False,
  )
  parser.add_argument("--config", default="configs/cps_toy.py", help="FILE.py:key=value,...")
  parser.add_argument("--size", type=parse_size, default=(1024, 2048), help="of the picture, HxW")
  parser.add_argument("--mode", choices=("slide", "whole"), default="slide")
  parser.add_argument("--window", type=parse_size, default=(800, 800), help="of mode slide")
  parser.add_argument("--stride", type=parse_size, help="default: 2/3 of the window, rounded up")
  parser.add_argument("--summed", choices=protocol.SUMMED, default="logits")
  parser.add_argument("--batch", type=arguments.whole(1), help="windows per call; eval.batch")
  parser.add_argument("--classes", type=arguments.whole(2, IGNORE), default=19)
  parser.add_argument("--rounds", type=arguments.whole(1), default=5, help="of each, in turn")
  parser.add_argument("--out", default="", help="a JSON file for the result")
  options, rest = parser.parse_known_args(list(argv))
  if unknown := [argument for argument in rest if not argument.startswith("--config.")]:
    parser.error(f"{' '.join(unknown)}: neither an option nor --config.KEY=VALUE")
  config = command_line.read([f"--config={options.config}", *rest], "benchmark")
  return options, config


def measure(config: ConfigDict, options: argparse.Namespace) -> dict[str, Any]:
  """Returns the fields of the last line; `options`: see the command."""
  config.model.pretrained = ""
  how = _protocol(config, options)
  forward, grid = _network(config, how, options.classes)
  make = functools.partial(how.segmenter, forward, grid=grid)
  segment = make(options.classes)
  image = np.random.default_rng(0).integers(0, 256, (*options.size, 3), np.uint8)
  plain = functools.partial(_plain, how, forward, options.classes)
  ours, (labels, scores) = segment(image), plain(image)  # compiles both
  mean = make(options.classes, classify=_sums)(image) if how.mode == "slide" else None
  difference = _difference(how, image, scores, mean)
  times: dict[str, list[float]] = {"seconds": [], "plain": []}
  for _ in range(options.rounds):
    times["seconds"].append(_seconds(segment, image))
    times["plain"].append(_seconds(plain, image))
  ratios = [b / a for a, b in zip(times["seconds"], times["plain"])]
  differ = ours != labels
  return {
    "ratio": statistics.median(ratios),
    **{name: statistics.median(some) for name, some in times.items()},
    "difference": difference,
    "labels_differ": int(differ.sum()),
    "difference_there": _margin(scores[differ], ours[differ]),
    "config": config.name,
    "size": list(options.size),
    "classes": options.classes,
    "batch": how.batch,
    "protocol": how.as_dict(),
    "load": os.getloadavg(),
    "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
    "cores": os.cpu_count(),
    "jax": jax.__version__,
    **version.describe(),
  }


def _protocol(config: ConfigDict, options: argparse.Namespace) -> Protocol:
  given = {"mode": options.mode, "summed": options.summed, "scales": (1.0,), "flip": False}
  if options.mode == "slide":
    given |= {"window": options.window, "stride": options.stride, "border": "shifted"}
  else:
    given["whole"] = "padded"
  return protocol.from_config(config.eval, network="0", batch=options.batch, **given)


def _network(config: ConfigDict, how: Protocol, classes: int) -> tuple[inference.Forward, Any]:
  """The first network with drawn weights, and the sizes that it knows."""
  from semiseg_jax.training import experiment

  mesh = sharding.make_mesh()
  method = experiment.make_method(config, mesh, classes=classes, channels=3)
  members = experiment.evaluated_members(config, method)
  drawn = {member.stack.name: stacks.init(member.stack, 0) for member in members}
  everywhere = sharding.replicated(mesh)
  params, stats = (
    jax.device_put({name: pair[k] for name, pair in drawn.items()}, everywhere) for k in range(2)
  )
  scores = inference.make_scores(config, members, how.network, **how.views())
  return inference.Forward(scores, params, stats), inference.grid(config, members)


@functools.partial(jax.jit, static_argnames="rule")
def _sums(scores: jax.Array, kept: Any = None, rule: str = "") -> tuple[jax.Array, jax.Array]:
  """Sums of scores [h,w,K] as they are, and whether all are finite."""
  return scores, jnp.isfinite(scores).all()


def _plain(
  how: Protocol, forward: inference.Forward, classes: int, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Labels [H,W] and mean scores [H,W,K], one window after the other."""
  tiles = _tiles(how, image)
  sums = np.zeros((*image.shape[:2], classes), np.float32)
  counts = np.zeros((*image.shape[:2], 1), np.float32)
  for tile in tiles:
    (y, x), (height, width) = tile.corner, tile.shape
    part = image[None, y : y + height, x : x + width]
    scores = np.asarray(forward(part, np.array([tile.valid], np.int32)))[0]
    sums[y : y + height, x : x + width] += scores
    counts[y : y + height, x : x + width] += 1
  sums /= counts
  return sums.argmax(-1).astype(np.uint8), sums


def _tiles(how: Protocol, image: np.ndarray) -> Sequence[Tile]:
  if how.mode == "whole":
    size = image.shape[:2]
    return (Tile((0, 0), size, (0, 0, *size)),)
  placed = IN_WINDOWS[how.border](image, how.window, how.stride)
  if placed.canvas.shape != image.shape:
    raise ConfigError(f"a window of {how.window} does not fit into the picture: --size, --window")
  return placed.tiles


def _margin(scores: np.ndarray, labels: np.ndarray) -> float:
  """By how much the highest of scores [n,K] is above that of a label [n], at most; 0 of none."""
  if not labels.size:
    return 0.0
  chosen = np.take_along_axis(scores, labels[:, None].astype(int), -1)[:, 0]
  return float((scores.max(-1) - chosen).max())


def _difference(
  how: Protocol, image: np.ndarray, plain: np.ndarray, sums: np.ndarray | None
) -> float | None:
  """The largest of mean scores, relative to the largest score; None of whole pictures."""
  if sums is None:
    return None
  counts = np.zeros((*image.shape[:2], 1), np.float32)
  for tile in _tiles(how, image):
    (y, x), (height, width) = tile.corner, tile.shape
    counts[y : y + height, x : x + width] += 1
  return float(np.abs(sums / counts - plain).max() / np.abs(plain).max())


def _seconds(run: Callable[[np.ndarray], Any], image: np.ndarray) -> float:
  start = time.perf_counter()
  run(image)
  return time.perf_counter() - start
