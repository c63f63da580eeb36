"""A training step relative to that of another config, both in turn in one process.

    python -m semiseg_jax.benchmark --what=relative --config=configs/cps_toy.py:method=unimatch \\
        --against=configs/cps_toy.py:method=supervised

Pictures are noise; weights and lists need not be there.  The steps of a method in stages are those
of all its stages.  The result is the median over the rounds of the ratio within a round, so that a
machine that is slow for a while does not matter.
"""

import argparse
import functools
import json
import os
import statistics
from collections.abc import Sequence

from ml_collections import ConfigDict

from semiseg_jax import files
from semiseg_jax.arguments import command
from semiseg_jax.benchmark import arguments
from semiseg_jax.config import command_line
from semiseg_jax.errors import ending
from semiseg_jax.labels import IGNORE
from semiseg_jax.workdir import compilation_cache


def main(argv: Sequence[str]) -> None:
  """Prints the ratio and, with --out, writes it."""
  options, config, against = _parse(argv)
  if os.environ.get("JAX_PLATFORMS") == "cpu":
    chosen = (os.environ.get("XLA_FLAGS", ""), config.runtime.cpu_xla_flags)
    os.environ["XLA_FLAGS"] = " ".join(filter(None, chosen))
  with ending("benchmark"):
    if options.cache:
      compilation_cache.start(options.cache, own=True)
    found = measure(config, against, options.classes, options.steps, options.rounds)
    if options.cache:
      compilation_cache.seal(options.cache)
    print(
      f"{found['relative']:.2f} times the step of {against.name}: "
      f"{1000 * found['seconds']:.1f} and {1000 * found['against']:.1f} ms"
    )
    if options.out:
      files.write_text(options.out, json.dumps(found) + "\n")


def _parse(argv: Sequence[str]) -> tuple[argparse.Namespace, ConfigDict, ConfigDict]:
  parser = argparse.ArgumentParser(
    prog=f"{command('semiseg_jax.benchmark')} --what=relative",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog="--config.KEY=VALUE and --against.KEY=VALUE change keys of the two",
    allow_abbrev=False,
  )
  parser.add_argument("--config", required=True, help="FILE.py or FILE.py:key=value,...")
  parser.add_argument("--against", required=True, help="the other one")
  parser.add_argument(
    "--classes",
    type=arguments.whole(0, IGNORE),
    default=0,
    help="channels of the logits; default: the data set's",
  )
  parser.add_argument("--steps", type=arguments.whole(1), default=5, help="of a round")
  parser.add_argument(
    "--rounds", type=arguments.whole(1), default=9, help="measurements of each, in turn"
  )
  parser.add_argument("--out", default="", help="a JSON file for the result")
  parser.add_argument("--cache", default="", help="a folder of compiled programs, of one at a time")
  options, rest = parser.parse_known_args(list(argv))
  keys: dict[str, list[str]] = {"config": [options.config], "against": [options.against]}
  for argument in rest:
    name = argument.removeprefix("--").partition(".")[0]
    if name not in keys or "=" not in argument:
      parser.error(f"{argument}: neither an option nor --config.KEY=VALUE or --against.KEY=VALUE")
    keys[name].append(argument.removeprefix(f"--{name}"))
  flags = ([f"--config={file}", *(f"--config{k}" for k in more)] for file, *more in keys.values())
  return options, *(command_line.read(given, "benchmark") for given in flags)


def measure(
  config: ConfigDict, against: ConfigDict, classes: int, steps: int, rounds: int
) -> dict[str, float]:
  """Measures two configs in turn.

  Args:
    config, against: the two.
    classes: channels of the logits, 0 = those of the data set, which is made where it is embedded.
    steps: of a round.
    rounds: of measurements.

  Returns:
    'relative': the ratio; 'seconds', 'against': medians of a step of each, all stages of it.
  """
  from semiseg_jax.benchmark import step

  classes = classes or _classes(config)
  programs, shares = {}, {}
  for title, one in (("config", config), ("against", against)):
    for name, run, share in _stages(one, classes):
      programs[title, name], shares[title, name] = run, share
  times = step.timed(programs, steps, rounds)
  whole = {
    title: [
      sum(shares[key] * times[key][k] for key in times if key[0] == title) for k in range(rounds)
    ]
    for title in ("config", "against")
  }
  ratios = [a / b for a, b in zip(whole["config"], whole["against"])]
  return {
    "relative": statistics.median(ratios),
    "seconds": statistics.median(whole["config"]),
    "against": statistics.median(whole["against"]),
  }


def _classes(config: ConfigDict) -> int:
  from semiseg_jax.data import opening
  from semiseg_jax.training import prepare

  prepare.prepare(config)
  return len(opening.open_dataset(config.data).info.classes)


def _stages(config: ConfigDict, classes: int) -> list[tuple]:
  """Returns (name, program, its steps relative to train.steps) of every stage."""
  from semiseg_jax import sharding, train
  from semiseg_jax.benchmark import step
  from semiseg_jax.config.rules import validate
  from semiseg_jax.training import experiment

  validate(config)
  found = []
  for k, one in enumerate(train.stage_configs(config, "stages")):
    one = ConfigDict(one.to_dict())
    one.model.pretrained = ""
    mesh = sharding.make_mesh(one.runtime.replica)
    method = experiment.make_method(one, mesh, classes=classes, channels=3)
    compiled, state, batch, _ = step.whole_step(one, method, classes)
    run = functools.partial(compiled, state, batch)
    found.append((str(k), run, one.train.steps / config.train.steps))
  return found
