"""Training with its real input: pictures per second, and how long the device waits for the host.

    python -m semiseg_jax.benchmark --what=end_to_end --config=configs/cps_toy.py --steps=50

Pictures come from the config's data set, which is made where it is embedded; nothing is saved and
nothing is evaluated.  The wait is the share of the time in which the loop stood still for input.
"""

import json
import os
import time
from collections.abc import Sequence

from ml_collections import ConfigDict

from semiseg_jax import machine
from semiseg_jax.errors import ending


def main(argv: Sequence[str]) -> None:
  """Prints a line for people and one of JSON."""
  from semiseg_jax.benchmark import step

  options = step.parse(argv, __doc__)
  config = options.config
  if machine.only_cpu():
    chosen = (os.environ.get("XLA_FLAGS", ""), config.runtime.cpu_xla_flags)
    os.environ["XLA_FLAGS"] = " ".join(filter(None, chosen))
  with ending("benchmark"):
    found = measure(config, options.steps, options.rounds)
  print(
    f"{found['images/s']:.2f} images/s, {1000 * found['seconds']:.1f} ms per step, host wait "
    f"{100 * found['host_wait']:.1f} %, {found['pictures']} pictures per step"
  )
  print(json.dumps(found))


def measure(config: ConfigDict, steps: int, rounds: int) -> dict[str, float | str | int]:
  """Trains `rounds` x `steps` steps after a warm-up of `steps`; the median round counts.

  Returns:
    'seconds' per step, 'images/s', 'host_wait' (share of the time), 'pictures' of a step, and what
    it ran on.
  """
  import jax

  from semiseg_jax.config.rules import validate
  from semiseg_jax.training import experiment, prepare, run
  from semiseg_jax.training.train_step import jitted_step

  validate(config)
  prepare.prepare(config)
  built = run.build(config)
  state = experiment.initial_state(built.config, built.method, built.optimizer)
  jitted, _ = jitted_step(built.method, built.optimizer, built.config, state)
  phase = built.method.phase(config.train.steps - 1)
  batches = run.device_batches(built, 0)
  rows = []
  for _ in range(rounds + 1):
    began, waited = time.perf_counter(), batches.wait_s
    for _ in range(steps):
      state, measured = jitted(state, next(batches), phase)
    jax.block_until_ready(measured)
    seconds = time.perf_counter() - began
    rows.append((seconds / steps, (batches.wait_s - waited) / seconds))
  batches.close()
  seconds, wait = sorted(rows[1:])[rounds // 2]
  pictures = sum(stream.batch for stream in built.method.streams)
  device = jax.devices()[0]
  return {
    "seconds": seconds,
    "images/s": pictures / seconds,
    "host_wait": min(1.0, wait),
    "pictures": pictures,
    "device": device.device_kind,
    "jax": jax.__version__,
  }
