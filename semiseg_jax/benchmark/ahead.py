"""A training step compiled for TPUs that are not here: does it fit, and what do the chips exchange.

    pip install "jax[tpu]"
    python -m semiseg_jax.benchmark --what=ahead --topology=v5e:2x4 \\
        --config=configs/cps_city.py --config.model.dtype=bfloat16

The program is the train step of the config on all chips of a slice; neither the chips nor pictures
nor weights are needed, only minutes to an hour of compiling.  Memory is the compiler's own
account of one chip.  Its seconds are an estimate and no measurement.
"""

import importlib.metadata
import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict, config_flags

from semiseg_jax import sharding
from semiseg_jax.benchmark import step
from semiseg_jax.config import command_line
from semiseg_jax.config.rules import validate
from semiseg_jax.errors import ConfigError, ending
from semiseg_jax.labels import IGNORE
from semiseg_jax.methods.method import Method
from semiseg_jax.models import platforms
from semiseg_jax.training import experiment, train_step

Tree = Any
# GiB of a chip, as Google's pages on the versions of Cloud TPU give them.
HBM = {"v2": 8, "v3": 16, "v4": 32, "v5e": 16, "v5p": 95, "v6e": 32}
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute")
_MADE = re.compile(rf" = (.*?) ({'|'.join(COLLECTIVES)})(?:-start)?\(")
_ARRAY = re.compile(r"\b(pred|bf16|[suf]\d+)\[([\d,]*)\]")
_TOO_MUCH = re.compile(r"Used ([\d.]+\w) of ([\d.]+\w) hbm")


def main(argv: Sequence[str]) -> None:
  """Prints the account of the compiled step and, last, the same as one line of JSON."""
  options = _parse(argv)
  config = options.config
  config.data.root, config.model.pretrained = config.data.root or "noise", ""
  jax.config.update("jax_platforms", "cpu")  # an accelerator that is here is left alone
  with ending("benchmark"):
    validate(config)
    mesh = described_mesh(options.topology, config.runtime.replica)
    found = account(config, mesh, options.classes)
  found = {"topology": options.topology, "config": config.name, **found}
  found |= {"jax": jax.__version__, "libtpu": _version()}
  print("\n".join(lines(found)))
  print(json.dumps(found))


def _parse(argv: Sequence[str]) -> flags.FlagValues:
  values = flags.FlagValues()
  holder = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment: FILE.py or FILE.py:key=value,...",
    flag_values=values,
    sys_argv=list(argv),
  )
  flags.DEFINE_string("topology", "v5e:2x4", "VERSION:AxB of a TPU slice.", flag_values=values)
  flags.DEFINE_integer("classes", 19, "Channels of the logits.", 2, IGNORE, flag_values=values)
  flags.DEFINE_bool("help", False, "Print the flags and stop.", flag_values=values)
  command_line.parse(["benchmark", *argv], holder, "benchmark", values)
  if values.help:
    print(f"{__doc__}\n{values.get_help()}")
    raise SystemExit(0)
  if values.config is None:
    raise SystemExit("benchmark: --config=FILE.py is missing.")
  return values


def described_mesh(topology: str, replica: int) -> Mesh:
  """Returns the mesh (`replica`, `data`) over the chips of a slice that need not be here.

  Raises:
    ConfigError: no compiler for TPUs, an unknown slice, or `replica` does not divide its chips.
  """
  from jax.experimental import topologies

  # Without them the compiler looks for a TPU host around it.
  os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
  os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
  try:
    chips = np.array(topologies.get_topology_desc(topology, "tpu").devices)
  except (jax.errors.JaxRuntimeError, RuntimeError, ValueError) as error:
    said = str(error).splitlines()[0][:200]
    raise ConfigError(
      f'--topology={topology}: {said}. The compiler for TPUs is `pip install "jax[tpu]"`; slices '
      "have names such as v5e:2x4, v4:2x2x1 or v6e:4x4."
    ) from error
  if replica < 1 or chips.size % replica:
    raise ConfigError(
      f"runtime.replica={replica} does not divide the {chips.size} chips of {topology}."
    )
  axes = (AxisType.Auto, AxisType.Auto)
  return Mesh(chips.reshape(replica, -1), ("replica", "data"), axis_types=axes)


def account(config: ConfigDict, mesh: Mesh, classes: int) -> dict[str, Any]:
  """Compiles the last phase of the step for a mesh and reads what the compiler says of it.

  Args:
    config: its method, networks, crop, batch and types.
    mesh: chips that are here or described ones.
    classes: channels of the logits.

  Returns:
    'chips'; 'seconds' of tracing and compiling; 'bytes' of a chip: arguments, results (those that
    take the place of arguments left out), temporaries, code; 'flops' of a chip and
    'estimated_seconds', where the compiler says them; 'collectives': name -> (number, bytes of
    their results on a chip).

  Raises:
    ConfigError: the batch cannot be dealt out, or the step does not fit into a chip's memory.
  """
  lowered, traced = _lowered(config, mesh, classes)
  began = time.monotonic()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    raise ConfigError(too_large(str(error), mesh)) from error
  memory, costs = compiled.memory_analysis(), compiled.cost_analysis() or {}
  return {
    "chips": mesh.size,
    "seconds": {"trace": traced, "compile": time.monotonic() - began},
    "bytes": {
      "arguments": memory.argument_size_in_bytes,
      "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
      "temporaries": memory.temp_size_in_bytes,
      "code": memory.generated_code_size_in_bytes,
    },
    "flops": costs.get("flops"),
    "estimated_seconds": costs.get("optimal_seconds"),
    "collectives": collectives(compiled.as_text()),
  }


def _lowered(config: ConfigDict, mesh: Mesh, classes: int) -> tuple[Any, float]:
  """Returns the step lowered for the chips of a mesh, and the seconds of it."""
  here = sharding.make_mesh()
  make = lambda mesh: experiment.make_method(config, mesh, classes=classes, channels=3)
  method, drawn = make(mesh), make(here)
  optimizer = experiment.make_optimizer(config, drawn)
  state = experiment.initial_state(config, drawn, optimizer)
  check_rows(method, mesh)
  state = jax.tree.map(_placed_on(mesh), state)
  rows = P("data") if config.train.accumulate == 1 else P(None, "data")
  described = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, rows))
  batch = jax.tree.map(described, step.noise(config, method, classes))
  optimizer = experiment.make_optimizer(config, method)
  jitted, _ = train_step.jitted_step(method, optimizer, config, state)
  began = time.monotonic()
  with platforms.traced_for(platforms.TPU):
    return jitted.lower(state, batch, method.phase(config.train.steps - 1)), (
      time.monotonic() - began
    )


def check_rows(method: Method, mesh: Mesh) -> None:
  """Raises ConfigError where rows of a batch cannot be dealt out evenly over `data`."""
  parts = mesh.shape["data"]
  for stream in method.streams:
    if stream.batch % parts:
      raise ConfigError(
        f"{stream.name}: a batch of {stream.batch} rows cannot be dealt out over {parts} chips; "
        "make it a multiple (train.batch_labeled, train.batch_unlabeled), or raise runtime.replica."
      )


def _placed_on(mesh: Mesh) -> Callable[[jax.Array], jax.ShapeDtypeStruct]:
  """Returns array -> its shape, placed on the mesh as it lies on that of one device here."""

  def place(x: jax.Array) -> jax.ShapeDtypeStruct:
    spec = x.sharding.spec
    if spec and spec[0] == "replica" and not sharding.holds_stack(mesh, x.shape[0]):
      spec = P()
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=NamedSharding(mesh, spec))

  return place


def too_large(said: str, mesh: Mesh) -> str:
  """Returns what a user does about a program that the compiler refuses with these words."""
  found = _TOO_MUCH.search(said)
  needs = f"{found[1]} of {found[2]}" if found else said.splitlines()[0][:300]
  return (
    f"The step does not fit into the memory of a chip ({needs}, {mesh.size} chips): take a smaller "
    "batch or crop, train.accumulate, --config.model.dtype=bfloat16 or --config.model.remat=blocks."
  )


def collectives(program: str) -> dict[str, tuple[int, int]]:
  """Returns kind of exchange -> (how many a compiled program has, bytes of their results).

  Args:
    program: its HLO text, of one chip.
  """
  found: dict[str, tuple[int, int]] = {}
  for line in program.splitlines():
    made = _MADE.search(line)
    if made:
      number, size = found.get(made[2], (0, 0))
      found[made[2]] = (number + 1, size + sum(map(_nbytes, _ARRAY.findall(made[1]))))
  return found


def _nbytes(array: tuple[str, str]) -> int:
  kind, shape = array
  bits = 8 if kind == "pred" else int(re.sub(r"\D", "", kind))
  return int(np.prod([int(n) for n in shape.split(",") if n], dtype=np.int64)) * bits // 8


def lines(found: Mapping[str, Any]) -> list[str]:
  """Returns the account as text, of what `main` collects."""
  parts, seconds = found["bytes"], found["seconds"]
  gib = {name: size / 2**30 for name, size in parts.items()}
  whole, version = sum(gib.values()), found["topology"].partition(":")[0]
  of = f" of {HBM[version]} GiB" if version in HBM else ""
  estimate = found["estimated_seconds"]
  rows = [
    f"{found['config']} on {found['chips']} chips of {found['topology']}: traced in "
    f"{seconds['trace']:.0f} s, compiled in {seconds['compile']:.0f} s",
    f"memory of a chip: {whole:.2f}{of}: "
    + ", ".join(f"{name} {size:.2f}" for name, size in gib.items()),
    "exchanged in a step, results on a chip: "
    + (
      ", ".join(
        f"{number} x {kind} ({size / 2**20:.1f} MiB)"
        for kind, (number, size) in found["collectives"].items()
      )
      or "nothing"
    ),
  ]
  if found["flops"] and found["flops"] > 0:
    rows.append(f"arithmetic of a chip: {found['flops'] / 1e12:.3f} TFLOP")
  if estimate and estimate > 0:
    rows.append(f"the compiler's estimate, no measurement: {1000 * estimate:.1f} ms a step")
  return rows


def _version() -> str:
  try:
    return importlib.metadata.version("libtpu")
  except importlib.metadata.PackageNotFoundError:
    return ""
