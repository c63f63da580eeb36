"""One training step: pictures per second, where its time goes, what compiling costs.

    python -m semiseg_jax.benchmark --what=step --config=configs/cps_voc.py \\
        --config.model.dtype=bfloat16 --config.data.crop="(800, 800)"

Pictures are noise, so no data set is needed; sizes, batches and everything else are the config's.
Beside the whole step its parts are run as programs of their own, in turn with it; they are of the
networks that train, on the rows of the streams `labeled` and `unlabeled`, as far as the method has
them.  Statistics are the difference of a forward and backward pass at batch and at running
statistics.  What a method does beside (passes without gradient, mixing) and the optimizer are in
the last line.
"""

import functools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags

from semiseg_jax import sharding, stacks
from semiseg_jax.benchmark import comparison, work
from semiseg_jax.benchmark.input import describe_machine
from semiseg_jax.config import command_line
from semiseg_jax.config.rules import validate
from semiseg_jax.errors import ending, refuse
from semiseg_jax.labels import IGNORE
from semiseg_jax.members import full_size
from semiseg_jax.methods.contract import SEGMENTATION
from semiseg_jax.methods.method import Method
from semiseg_jax.ops.losses import cross_entropy_sums
from semiseg_jax.ops.preprocess import normalize
from semiseg_jax.state import TrainState
from semiseg_jax.training import experiment
from semiseg_jax.training.train_step import jitted_step, make_train_step

Tree = Any
_WHOLE = "whole step"


def main(argv: Sequence[str]) -> None:
  """Prints the table."""
  options = parse(argv)
  config = options.config
  if options.compare:
    with ending("benchmark"):
      print("\n".join(comparison.measure(argv, options.steps, options.rounds, options.torch_modes)))
    return
  with ending("benchmark"):
    method = prepared(config, options.classes)
  print(describe_machine())
  device = jax.devices()[0]
  print(f"{jax.device_count()} x {device.device_kind} ({device.platform}), jax {jax.__version__}")
  print("\n".join(measure(config, method, options.classes, options.steps, options.rounds)))


def prepared(config: ConfigDict, classes: int) -> Method:
  """Returns the method of a config that noise is made for: neither lists nor weights are read."""
  config.data.root, config.model.pretrained = config.data.root or "noise", ""
  validate(config)
  mesh = sharding.make_mesh(config.runtime.replica)
  return experiment.make_method(config, mesh, classes=classes, channels=3)


def parse(argv: Sequence[str], about: str | None = __doc__) -> flags.FlagValues:
  """Returns the options; `about` stands above them in the help."""
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment: FILE.py or FILE.py:key=value,...",
    flag_values=values,
    sys_argv=list(argv),
  )
  flags.DEFINE_integer("classes", 21, "Channels of the logits.", 2, IGNORE, flag_values=values)
  flags.DEFINE_integer("steps", 10, "Steps of a round.", 1, flag_values=values)
  flags.DEFINE_integer("rounds", 5, "Measurements of each, in turn.", 1, flag_values=values)
  flags.DEFINE_enum(
    "compare",
    None,
    ["torch"],
    "Measure a PyTorch step of the same recipe in turn with ours, each in its own process.",
    flag_values=values,
  )
  flags.DEFINE_multi_enum(
    "torch_modes",
    list(comparison.MODES),
    comparison.MODES,
    "How PyTorch runs, one flag each; the fastest is compared.  Compiling takes minutes on a CPU.",
    flag_values=values,
  )
  flags.DEFINE_bool("help", False, "Print the flags and stop.", flag_values=values)
  command_line.parse(["benchmark", *argv], holder, "benchmark", values)
  if values.help:
    print(f"{about}\n{values.get_help()}")
    raise SystemExit(0)
  if values.config is None:
    refuse("benchmark: --config=FILE.py is missing.")
  return values


def measure(config: ConfigDict, method: Method, classes: int, steps: int, rounds: int) -> list[str]:
  """Returns the lines of the table of a method; every program is run `rounds` x `steps` times."""
  traced, state, batch = traced_step(config, method, classes)
  compiled, seconds = _compiled(traced)
  programs = {
    _WHOLE: functools.partial(compiled, state, batch),
    **parts(config, method, state, batch),
  }
  times = timed(programs, steps, rounds)
  pictures = sum(stream.batch for stream in method.streams)
  height, width = config.data.crop
  memory = compiled.memory_analysis()
  nets, whole = method.members[SEGMENTATION], statistics.median(times[_WHOLE])
  counted, best = work.flops(traced), jax.device_count() * work.ceiling(config.model.dtype)
  return [
    f"{config.method.name}, {' and '.join(m.stack.network.name for m in nets)}, "
    f"{pictures} pictures of {height}x{width} per step, {config.model.dtype}",
    f"compiled in {seconds:.1f} s"
    + ("" if memory is None else f"; {memory.temp_size_in_bytes / 2**30:.2f} GiB while it runs"),
    *table(times, pictures),
    work.describe(counted, whole, best),
    json.dumps(
      {
        "seconds": whole,
        "images/s": pictures / whole,
        "flops": counted[0],
        "ceiling": best,
        "temporary_bytes": None if memory is None else memory.temp_size_in_bytes,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "jax": jax.__version__,
      }
    ),
  ]


def whole_step(
  config: ConfigDict, method: Method, classes: int
) -> tuple[Callable[..., Tree], TrainState, Tree, float]:
  """Returns the compiled step (state, batch) of a method, both arguments, and compiling's seconds.

  It is the step of the last phase: all terms take part.
  """
  traced, state, batch = traced_step(config, method, classes)
  compiled, seconds = _compiled(traced)
  return compiled, state, batch, seconds


def traced_step(config: ConfigDict, method: Method, classes: int) -> tuple[Any, TrainState, Tree]:
  """Returns the traced step of a method, its state kept, and a state and a batch of noise."""
  mesh = method.members[SEGMENTATION][0].stack.mesh
  optimizer = experiment.make_optimizer(config, method)
  state = experiment.initial_state(config, method, optimizer)
  batch = sharding.put_batch(mesh, noise(config, method, classes))
  step = make_train_step(method, optimizer, config.seed, config.train.accumulate)
  placed = jax.tree.map(lambda leaf: leaf.sharding, state)
  whole = jax.jit(step, static_argnums=2, out_shardings=(placed, None))
  return whole.trace(state, batch, method.phase(config.train.steps - 1)), state, batch


def _compiled(traced: Any) -> tuple[Callable[..., Tree], float]:
  began = time.monotonic()
  compiled = traced.lower().compile()
  return compiled, time.monotonic() - began


def as_trained(
  config: ConfigDict, classes: int
) -> tuple[Callable[..., Tree], TrainState, Tree, Any]:
  """Returns the step as training jits it (its state donated), a state, a batch of noise, a phase.

  All terms of the loss take part.
  """
  method = prepared(config, classes)
  optimizer = experiment.make_optimizer(config, method)
  state = experiment.initial_state(config, method, optimizer)
  mesh = method.members[SEGMENTATION][0].stack.mesh
  batch = sharding.put_batch(mesh, noise(config, method, classes))
  jitted, _ = jitted_step(method, optimizer, config, state)
  return jitted, state, batch, method.phase(config.train.steps - 1)


def lowered(config: ConfigDict, classes: int) -> Any:
  """Returns the lowered step of `as_trained`."""
  jitted, *inputs = as_trained(config, classes)
  return jitted.lower(*inputs)


def noise(config: ConfigDict, method: Method, classes: int) -> dict[str, dict[str, np.ndarray]]:
  """Returns one batch of every stream as the pipeline makes them, of random pixels and labels."""
  rng, size, parts = np.random.default_rng(0), tuple(config.data.crop), config.train.accumulate
  found = {}
  for stream in method.streams:
    shape = (stream.batch,) if parts == 1 else (parts, stream.batch // parts)
    found[stream.name] = {
      "image": rng.integers(0, 256, (*shape, *size, 3), dtype=np.uint8),
      "label": rng.integers(0, classes, (*shape, *size), dtype=np.uint8),
      "valid": np.broadcast_to(np.array((0, 0, *size), np.int32), (*shape, 4)).copy(),
      "index": np.zeros(shape, np.int32),
    }
    if stream.targets:
      found[stream.name] |= {
        "target": rng.integers(0, classes, (*shape, *size), dtype=np.uint8),
        "confidence": rng.integers(0, 256, (*shape, *size), dtype=np.uint8),
      }
    if stream.view == "pair":  # two crops of one place
      first = found[stream.name]
      second = {f"{name}_2": first[name].copy() for name in ("image", "label", "valid")}
      geometry = np.array((0, 0, *size, 0, 0), np.int32)
      first |= {**second, "geometry": np.broadcast_to(geometry, (*shape, 6)).copy()}
  return found


def parts(
  config: ConfigDict, method: Method, state: TrainState, batch: Tree
) -> dict[str, Callable[[], Tree]]:
  """Returns compiled programs of the parts of a step on the networks that train, each once run.

  Of a family of unlike networks it is the first architecture.
  """
  member = method.members[SEGMENTATION][0]
  stack = member.stack
  params, stats = state.params[stack.name], state.stats[stack.name]
  if config.train.accumulate > 1:
    batch = jax.tree.map(lambda x: x[0], batch)
  mean, std = tuple(config.data.mean), tuple(config.data.std)
  seen = lambda stream: normalize(stream["image"], stream["valid"], mean, std)
  x = jax.jit(lambda batch: {name: seen(stream) for name, stream in batch.items()})(batch)
  y = {
    name: jnp.broadcast_to(s["label"], (stack.n, *s["label"].shape)) for name, s in batch.items()
  }

  def forward(params: Tree, stats: Tree, x: Tree, bn: str = "train") -> Tree:
    outputs, _ = stacks.apply(stack, params, stats, x, bn=bn)
    return {name: {"logits": out["logits"]} for name, out in outputs.items()}

  def both(bn: str) -> Callable[..., Tree]:
    square = lambda *inputs: sum(
      jnp.square(z).mean() for z in jax.tree.leaves(forward(*inputs, bn))
    )
    return jax.grad(square)

  def upsample(logits: Tree) -> Tree:
    return full_size([member], [logits], {name: x[name].shape[1:3] for name in x})

  def up_and_down(logits: Tree, cotangent: Tree) -> Tree:
    full, pull = jax.vjp(upsample, logits)
    return full, pull(cotangent)

  def loss(full: Tree, y: Tree) -> jax.Array:
    pools = [cross_entropy_sums(full[name], y[name]) for name in full]
    return sum((total / jnp.maximum(count, 1)).sum() for total, count in pools)

  logits = jax.jit(forward)(params, stats, x)
  full = jax.jit(upsample)(logits)
  inputs = (params, stats, x)
  return {
    "forward": functools.partial(jax.jit(forward), *inputs),
    "both": functools.partial(jax.jit(both("train")), *inputs),
    "both, running statistics": functools.partial(jax.jit(both("eval")), *inputs),
    "upsampling": functools.partial(jax.jit(up_and_down), logits, full),
    "loss": functools.partial(jax.jit(jax.value_and_grad(loss)), full, y),
  }


def timed(
  programs: Mapping[str, Callable[[], Tree]], steps: int, rounds: int
) -> dict[str, list[float]]:
  """Returns the seconds per call of each round; the first call of each is not counted."""
  for run in programs.values():
    jax.block_until_ready(run())
  times: dict[str, list[float]] = {name: [] for name in programs}
  for _ in range(rounds):
    for name, run in programs.items():
      began = time.perf_counter()
      for _ in range(steps):
        found = run()
      jax.block_until_ready(found)
      times[name].append((time.perf_counter() - began) / steps)
  return times


def table(times: Mapping[str, Sequence[float]], pictures: int) -> list[str]:
  """Returns the lines: medians over the rounds, and their share of the whole step."""
  middle = {name: statistics.median(seconds) for name, seconds in times.items()}
  whole, both = middle[_WHOLE], middle["both"]
  rows = {
    "forward": middle["forward"],
    "backward": both - middle["forward"],
    "  batch statistics, in both": both - middle["both, running statistics"],
    "upsampling and its gradient": middle["upsampling"],
    "loss and its gradient": middle["loss"],
    "all else": whole - both - middle["upsampling"] - middle["loss"],
  }
  spread = " ".join(f"{1000 * seconds:.1f}" for seconds in times[_WHOLE])
  return [
    f"{pictures / whole:.2f} images/s, {1000 * whole:.1f} ms per step ({spread})",
    *(f"  {name:<28}{1000 * s:10.1f} ms {100 * s / whole:6.1f} %" for name, s in rows.items()),
  ]
