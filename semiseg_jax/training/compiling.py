"""Says that a step is being compiled, and for how long that went on before."""

import hashlib
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from semiseg_jax import files

FILE = "compile_seconds.json"  # in a work directory
_LEAST = 3.0  # seconds that are worth a word


class Announced:
  """A step that says on stderr when it compiles: at its first call and at that of each new phase.

  How long it usually takes is what it took in this work directory or, where nothing was compiled
  yet, in one beside it whose step was the same.

  Args of the constructor:
    step: (state, batch, phase) -> anything, jitted.
    config: of the run.
    workdir: of the run.
  """

  def __init__(self, step: Callable[..., Any], config: ConfigDict, workdir: str):
    self._step, self._seen = step, set()
    self._file, self._key = pathlib.Path(workdir) / FILE, _key(config)

  def __call__(self, state: Any, batch: Any, phase: frozenset[str]) -> Any:
    """Calls the step."""
    if phase in self._seen or jax.process_index():
      return self._step(state, batch, phase)
    usual = usual_seconds(self._file, self._key) if not self._seen else None
    about = f", usually {usual:.0f} s" if usual and usual >= _LEAST else ""
    print(f"compiling the step ...{about}", file=sys.stderr, flush=True)
    started = time.monotonic()
    stepped = self._step(state, batch, phase)
    if not self._seen:
      _remember(self._file, self._key, time.monotonic() - started)
    self._seen.add(phase)
    return stepped


def usual_seconds(file: pathlib.Path, key: str) -> float | None:
  """Returns the seconds of the last compilation of a step, None where none is known.

  Args:
    file: FILE of a work directory; those beside that directory count where it is not there.
    key: of the step.
  """
  own = _seconds(file, key)
  if own:
    return own[-1]  # of a step that may lie in the cache
  beside = [_seconds(other, key) for other in sorted(file.parent.parent.glob(f"*/{FILE}"))]
  firsts = [seconds[0] for seconds in beside if seconds]
  return firsts[-1] if firsts else None


def _remember(file: pathlib.Path, key: str, seconds: float) -> None:
  """Keeps the first compilation, of an empty cache, and the last one."""
  times = [*_seconds(file, key)[:1], round(seconds, 1)]
  files.write_text(file, json.dumps({"step": key, "seconds": times}) + "\n")


def _seconds(file: pathlib.Path, key: str) -> list[float]:
  try:
    saved = json.loads(file.read_bytes())
    return [float(s) for s in saved["seconds"]] if saved["step"] == key else []
  except (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RecursionError,
  ):  # nothing that anything depends on
    return []


def _key(config: ConfigDict) -> str:
  """What the program of a step depends on: networks, method, shapes, device."""
  blocks = [config[name].to_dict() for name in ("model", "method", "optimizer")]
  shapes = (config.data.crop, config.train.batch_labeled, config.train.batch_unlabeled)
  device = jax.devices()[0].device_kind
  said = json.dumps([blocks, shapes, device, jax.__version__], sort_keys=True, default=str)
  return hashlib.sha256(said.encode()).hexdigest()[:16]
