"""One side of a comparison: a process of its own that steps when it is asked to.

Its one argument is `jax` or `torch`.  It reads JSON lines: first what to run, then {"steps": N}; it
answers each with one.  What libraries print goes to stderr.
"""

import ctypes
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

from semiseg_jax import machine

# What is said of it; a call that runs so many steps; one that returns the peak memory in bytes.
Stepper = tuple[dict[str, Any], Callable[[int], None], Callable[[], int]]


def main(name: str) -> None:
  """Prepares a side, answers with what it is, then steps."""
  answers = os.fdopen(os.dup(1), "w")
  os.dup2(2, 1)
  about, step, peak = {"jax": _jax, "torch": _torch}[name](json.loads(sys.stdin.readline()))
  step(2)  # the first one compiles
  _forget_peak()
  print(json.dumps(about), file=answers, flush=True)
  for line in sys.stdin:
    count = json.loads(line)["steps"]
    began, worked = time.perf_counter(), time.process_time()
    step(count)
    found = {
      "seconds": (time.perf_counter() - began) / count,
      "processor": (time.process_time() - worked) / count,
      "peak": peak(),
    }
    print(json.dumps(found), file=answers, flush=True)


def _jax(task: dict[str, Any]) -> Stepper:
  """Our step as training runs it, its state donated; task: 'argv' of --what=step."""
  from semiseg_jax.benchmark import step as step_module

  options = step_module.parse(task["argv"])
  config = options.config
  if machine.only_cpu():
    chosen = (os.environ.get("XLA_FLAGS", ""), config.runtime.cpu_xla_flags)
    os.environ["XLA_FLAGS"] = " ".join(filter(None, chosen))
  import jax

  from semiseg_jax.benchmark import same_recipe
  from semiseg_jax.errors import ending

  with ending("benchmark"):
    method = step_module.prepared(config, options.classes)
    recipe = same_recipe.recipe_of(config, method, options.classes)
    jitted, state, batch, phase = step_module.as_trained(config, options.classes)

  def run(count: int) -> None:
    nonlocal state
    for _ in range(count):
      state, found = jitted(state, batch, phase)
    jax.block_until_ready(found)

  device = jax.devices()[0]
  about = {"device": device.device_kind, "version": jax.__version__, "recipe": vars(recipe)}
  used = lambda: device.memory_stats()["peak_bytes_in_use"]
  return {**about, "platform": device.platform}, run, _peak if device.platform == "cpu" else used


def _torch(task: dict[str, Any]) -> Stepper:
  """PyTorch's step; task: 'recipe', 'mode', 'threads'."""
  import numpy as np
  import torch

  from semiseg_jax.benchmark.torch.recipe import Recipe
  from semiseg_jax.benchmark.torch.step import Step

  torch.set_num_threads(task["threads"])
  recipe = Recipe(**task["recipe"])
  device = "cuda" if torch.cuda.is_available() and task["platform"] == "gpu" else "cpu"
  rng, step = np.random.default_rng(0), Step(recipe, task["mode"], device)
  rows = {"labeled": recipe.labeled, "unlabeled": recipe.unlabeled}
  if recipe.cutmix:
    rows["unlabeled_mix"] = recipe.unlabeled
  batch = step.batch(
    {
      name: {
        "image": rng.integers(0, 256, (n, *recipe.crop, 3), dtype=np.uint8),
        "label": rng.integers(0, recipe.classes, (n, *recipe.crop), dtype=np.uint8),
      }
      for name, n in rows.items()
    }
  )

  def run(count: int) -> None:
    for _ in range(count):
      loss = step(batch)
    loss.item()  # waits for the device

  named = torch.cuda.get_device_name() if device == "cuda" else "cpu"
  about = {"device": named, "version": torch.__version__, "mode": task["mode"]}
  return about, run, torch.cuda.max_memory_allocated if device == "cuda" else _peak


def _forget_peak() -> None:
  """Linux: what compiling took is given back, and the highest resident set starts anew."""
  try:
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as file:
      file.write("5")
  except (OSError, AttributeError):  # elsewhere the peak is that of the whole process
    pass


def _peak() -> int:
  """Returns the highest resident set in bytes since `_forget_peak`."""
  try:
    with open("/proc/self/status") as file:
      high = next(line for line in file if line.startswith("VmHWM"))
    return 1024 * int(high.split()[1])
  except OSError:
    scale = 1 if sys.platform == "darwin" else 1024
    return scale * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
  main(sys.argv[1])
