"""Our step and PyTorch's of the same recipe, in turn, each in a process of its own.

PyTorch runs eagerly, eagerly with channels last, and compiled with channels last; the fastest of
those that --torch_modes names is compared.  Threads are as many as the processors that this process
may use, on both sides.  Memory is the highest resident set of a process while it steps (Linux;
elsewhere of its whole life), or what the device's own count says.
"""

import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from semiseg_jax.errors import UserError

MODES = ("eager", "channels_last", "compile")
_TRIAL = 2  # steps by which the modes of PyTorch are told apart


class Side:
  """A process that steps on request; a context manager that ends it.

  Args of the constructor:
    name: 'jax' or 'torch'.
    task: see `side`.
  """

  def __init__(self, name: str, task: Mapping[str, Any]):
    self._name = name
    self._process = subprocess.Popen(
      [sys.executable, "-m", "semiseg_jax.benchmark.side", name],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env={**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"},  # both are on one device
    )
    self.about = self._ask(task)

  def __enter__(self) -> "Side":
    return self

  def __exit__(self, *error: object) -> None:
    self._process.stdin.close()
    self._process.stdout.close()
    self._process.wait()

  def run(self, steps: int) -> dict[str, float]:
    """Returns 'seconds' and 'processor' seconds of a step, and the 'peak' of memory in bytes."""
    return self._ask({"steps": steps})

  def _ask(self, task: Mapping[str, Any]) -> dict[str, Any]:
    try:
      print(json.dumps(task), file=self._process.stdin, flush=True)
      answer = self._process.stdout.readline()
    except BrokenPipeError:
      answer = ""
    if not answer:
      code = self._process.wait()
      raise SideError(f"--compare=torch: the side {self._name} ended with code {code}; see above.")
    return json.loads(answer)


class SideError(UserError):
  """A side that could not go on."""


def measure(
  argv: Sequence[str], steps: int, rounds: int, modes: Sequence[str] = MODES
) -> list[str]:
  """Returns the lines of a comparison, the last of them JSON.

  Args:
    argv: options of --what=step, for our side.
    steps: of a round.
    rounds: measurements of each side, in turn.
    modes: of PyTorch, some of MODES.

  Raises:
    UserError: torch is absent, a config that the PyTorch step does not have, or a side that ended.
  """
  if importlib.util.find_spec("torch") is None:
    raise UserError("--compare=torch needs PyTorch: pip install torch")
  with Side("jax", {"argv": list(argv)}) as ours:
    recipe = ours.about.pop("recipe")
    task = {
      "recipe": recipe,
      "threads": len(os.sched_getaffinity(0)),
      "platform": ours.about["platform"],
    }
    trials, notes = _trials(task, modes)
    best = min(trials, key=trials.get)
    with Side("torch", {**task, "mode": best}) as theirs:
      found = {"jax": [], "torch": []}
      for _ in range(rounds):
        found["jax"].append(ours.run(steps))
        found["torch"].append(theirs.run(steps))
    about = {"jax": ours.about, "torch": theirs.about}
  return [*notes, *report(found, about, recipe, trials, task["threads"])]


def _trials(task: Mapping[str, Any], modes: Sequence[str]) -> tuple[dict[str, float], list[str]]:
  """Returns the seconds of a step of every mode that runs here, and what does not."""
  trials, notes = {}, []
  for mode in modes:
    try:
      with Side("torch", {**task, "mode": mode}) as side:
        trials[mode] = side.run(_TRIAL)["seconds"]
    except SideError:
      notes.append(f"PyTorch {mode} does not run here, see above")
    print(f"PyTorch {mode}: {trials.get(mode, 'failed')}", file=sys.stderr, flush=True)
  if not trials:
    raise SideError("--compare=torch: no mode of PyTorch runs here; see above.")
  return trials, notes


def report(
  found: Mapping[str, Sequence[Mapping[str, float]]],
  about: Mapping[str, Mapping[str, Any]],
  recipe: Mapping[str, Any],
  trials: Mapping[str, float],
  threads: int,
) -> list[str]:
  """Returns the lines: each side's medians, the ratios within a round, JSON.

  Args:
    found: side -> rounds of what `Side.run` returns.
    about: side -> 'device', 'version'; of torch 'mode' too.
    recipe: of both.
    trials: mode -> seconds of a step.
    threads: of both.
  """
  ratios = {
    key: statistics.median(b[key] / a[key] for a, b in zip(found["jax"], found["torch"]))
    for key in ("seconds", "processor")
  }
  middle = {
    side: {key: statistics.median(r[key] for r in rounds) for key in ("seconds", "processor")}
    | {"least": min(r["seconds"] for r in rounds), "peak": max(r["peak"] for r in rounds)}
    for side, rounds in found.items()
  }
  memory = middle["torch"]["peak"] / middle["jax"]["peak"]
  height, width = recipe["crop"]
  pictures = recipe["labeled"] + recipe["unlabeled"] * (2 if recipe["cutmix"] else 1)
  titles = {
    "jax": f"ours, jax {about['jax']['version']}",
    "torch": f"torch {about['torch']['version']}, {about['torch']['mode']}",
  }
  tried = ", ".join(f"{mode} {1000 * seconds:.0f}" for mode, seconds in trials.items())
  numbers = {"pictures": pictures, "threads": threads, "sides": middle, "about": about}
  return [
    f"{recipe['networks']} x {recipe['backbone']}, {pictures} pictures of {height}x{width} per "
    f"step, {recipe['dtype']}, on {about['jax']['device']}, {threads} threads; load "
    f"{os.getloadavg()[0]:.1f}",
    f"PyTorch's modes, ms per step: {tried}",
    *(
      f"  {titles[side]:<34}{1000 * m['seconds']:9.1f} ms (least {1000 * m['least']:.1f}), "
      f"{1000 * m['processor']:9.1f} ms of processor, {m['peak'] / 1e9:6.2f} GB"
      for side, m in middle.items()
    ),
    f"torch / ours: {ratios['seconds']:.2f} x the time, {ratios['processor']:.2f} x the processor "
    f"time, {memory:.2f} x the memory (above 1: ours is better)",
    json.dumps({**numbers, "ratio": {**ratios, "peak": memory}, "load": os.getloadavg()[0]}),
  ]
