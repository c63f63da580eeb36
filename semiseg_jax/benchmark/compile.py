"""The first step of a config, cold and warm: import, state, trace, lower, compile, cache, run.

    python -m semiseg_jax.benchmark --what=compile --config=configs/cps_toy.py

Each start is a process of its own: the first has an empty compilation cache, the second that of the
first.  Pictures are noise.  Seconds of the clock and, in brackets, of the processor, which other
work on the machine disturbs little.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence

from absl import flags

from semiseg_jax import machine
from semiseg_jax.errors import UserError, ending

_READ = "/jax/compilation_cache/cache_retrieval_time_sec"
PARTS = ("import and config", "state and batch", "trace", "lower", "compile", "first run")


def main(argv: Sequence[str]) -> None:
  """Prints the table and a JSON line; with --start=FOLDER it is one of the starts."""
  values = flags.FlagValues()
  flags.DEFINE_string("start", "", "One start with this folder as cache.", flag_values=values)
  rest = values([sys.argv[0], *argv], known_only=True)[1:]
  if values.start:
    print(json.dumps(_start(rest, values.start)))
    return
  if "--help" in rest:
    from semiseg_jax.benchmark import step

    step.parse(rest, __doc__)
  with ending("benchmark"), tempfile.TemporaryDirectory() as folder:
    found = {name: _child(argv, folder) for name in ("cold", "warm")}
  print("\n".join(table(found)))


def _child(argv: Sequence[str], folder: str) -> dict[str, list[float]]:
  began = time.perf_counter()
  ended = subprocess.run(
    [sys.executable, "-m", "semiseg_jax.benchmark", "--what=compile", f"--start={folder}", *argv],
    stdout=subprocess.PIPE,
    text=True,
  )
  if ended.returncode:
    raise UserError(f"--what=compile: a start ended with code {ended.returncode}; see above.")
  found = json.loads(ended.stdout.splitlines()[-1])
  return {**found, "whole process": [time.perf_counter() - began, found["whole process"][1]]}


def _start(argv: Sequence[str], folder: str) -> dict[str, list[float]]:
  """Returns part -> (seconds, processor seconds) of one first step."""
  found: dict[str, list[float]] = {}
  laps = _laps(found)
  next(laps)
  from semiseg_jax.benchmark import step

  options = step.parse(argv)
  if machine.only_cpu():
    chosen = (os.environ.get("XLA_FLAGS", ""), options.config.runtime.cpu_xla_flags)
    os.environ["XLA_FLAGS"] = " ".join(filter(None, chosen))
  import jax

  from semiseg_jax.workdir import compilation_cache

  read: list[float] = []
  jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: read.append(seconds) if event == _READ else None
  )
  laps.send("import and config")
  with ending("benchmark"):
    jitted, state, batch, phase = step.as_trained(options.config, options.classes)
  laps.send("state and batch")
  compilation_cache.start(folder, own=True)
  traced = jitted.trace(state, batch, phase)
  laps.send("trace")
  lowered = traced.lower()
  laps.send("lower")
  compiled = lowered.compile()
  laps.send("compile")
  jax.block_until_ready(compiled(state, batch))
  laps.send("first run")
  compilation_cache.seal(folder)
  return {
    **found,
    "cache read, in compile": [sum(read), 0.0],
    "whole process": [0.0, time.process_time()],
  }


def _laps(found: dict[str, list[float]]) -> Iterator[None]:
  """Takes the name of what has just ended, and keeps its seconds."""
  while True:
    began = time.perf_counter(), time.process_time()
    name = yield
    found[name] = [
      now - then for now, then in zip((time.perf_counter(), time.process_time()), began)
    ]


def table(found: Mapping[str, Mapping[str, Sequence[float]]]) -> list[str]:
  """Returns the lines: a part each, cold and warm, and all of it as JSON."""
  lines = [f"{'':<24}" + "".join(f"{name:>20}" for name in found)]
  for part in (*PARTS, "cache read, in compile", "whole process"):
    cells = (f"{times[part][0]:.2f} s ({times[part][1]:.2f})" for times in found.values())
    lines.append(f"{part:<24}" + "".join(f"{cell:>20}" for cell in cells))
  return [*lines, json.dumps({name: dict(times) for name, times in found.items()})]
