"""Turns a whole published PyTorch network into a workdir that evaluate, predict and init_from read.

python -m data_prep.published --source epoch-34.pth --config=configs/cps_voc.py:ratio=1_8 \
  --dataset data/voc --out runs/published

The source is what torch.save, pickle, safetensors or numpy.savez wrote (torch is not needed, and
nothing in a file is run): checkpoints of CPS (branch1. and branch2.), UniMatch, CAC (module.), U2PL
(--prefix teacher_state or model_state), UniMatch V2 (--prefix model or model_ema).  The config
describes the network, the dataset gives classes and channels.  Every --config.KEY=VALUE of training
can be given.  Every tensor is used or listed; every parameter must be there with its own shape.
"""

import argparse
import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from flax import traverse_util
from ml_collections import ConfigDict, config_flags

from data_prep import command
from data_prep.weights import alike, branches, dinov3, matching, sound
from semiseg_jax import arguments, seals, sharding
from semiseg_jax.config import command_line, rules
from semiseg_jax.data import opening
from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.methods.method import Method
from semiseg_jax.models.parts import Parts
from semiseg_jax.models.pretrained import file_sha256
from semiseg_jax.models.torch import state_dicts, torch_names
from semiseg_jax.models.torch.files import read_source
from semiseg_jax.stacks import Stack
from semiseg_jax.state import TrainState
from semiseg_jax.training import experiment
from semiseg_jax.workdir import provenance, store
from semiseg_jax.workdir.checkpoints import Checkpoints

Tree = Any


def convert(
  state: Mapping[str, np.ndarray], network: Parts, count: int, prefixes: Sequence[str] = ()
) -> tuple[Tree, Tree, list[matching.Match]]:
  """Finds `count` networks in a state dict.

  Args:
    state: state-dict name -> array in PyTorch's layout.
    network: their architecture.
    count: how many.
    prefixes: one beginning of names for each, where there are more, or in another order.

  Returns:
    Stacked (params, batch_stats), leaves [count, ...] float32, and where each was found.

  Raises:
    WeightsError: see `matching.find`, `sound.check` and `alike.check_registers`; or a part of the
      network has no PyTorch counterpart.
  """
  names, trees = torch_names.network_names(network), network.shapes()
  leaves = {p: leaf for tree in trees for p, leaf in traverse_util.flatten_dict(tree).items()}
  alike.check_registers(state, names.values(), network.name)
  state = dinov3.gathered(state, names.values())
  matches = matching.find(
    state,
    {names[path]: torch_names.torch_shape(leaf.shape) for path, leaf in leaves.items()},
    what=network.name,
    count=count,
    optional=state_dicts.optional_names(network),
    prefixes=prefixes,
  )

  sound.check(state, matches)

  def copies(path: tuple[str, ...], leaf: Any) -> Any:
    if not isinstance(leaf, jax.ShapeDtypeStruct):  # a part without parameters or statistics
      return leaf
    found = [match.names.get(names[path]) for match in matches]
    return np.stack(
      [
        np.zeros(leaf.shape, np.float32) if there is None else torch_names.from_torch(state[there])
        for there in found
      ]
    )

  params, stats = (
    traverse_util.unflatten_dict(
      {
        path: copies(path, leaf)
        for path, leaf in traverse_util.flatten_dict(tree, keep_empty_nodes=True).items()
      }
    )
    for tree in trees
  )
  return params, stats, matches


def prepare(source: str, config: ConfigDict, out: str, prefixes: Sequence[str] = ()) -> list[str]:
  """Writes the workdir `out` and returns what to say.

  Its one checkpoint stands at the last step of the config: the training is done.  Optimizer state
  and what the method keeps beside its evaluated networks are fresh.

  Raises:
    WeightsError, DataError, ConfigError, CheckpointError: what does not fit, and the mend.
  """
  store.refuse(out, "--out")
  rules.validate(config)
  dataset = opening.open_dataset(config.data)
  if (pathlib.Path(out) / "checkpoints").exists():
    raise CheckpointError(f"--out {out} holds checkpoints already; give a new folder.")
  read = read_source(source)
  config, notes = branches.fitted(config, read.tensors, source)
  info, mesh = dataset.info, sharding.make_mesh(config.runtime.replica)
  method = experiment.make_method(config, mesh, classes=len(info.classes), channels=info.channels)
  rules.check_dataset(config, dataset)
  stack = _evaluated(config, method)
  state = dinov3.gathered(read.tensors, torch_names.network_names(stack.network).values())
  *trees, matches = convert(state, stack.network, stack.n, prefixes)
  nets = experiment.describe_nets(method, experiment.evaluated(config, method))
  meta = provenance.describe_run(config, dataset, {}, nets, {})  # lists are not told by the source
  unused = matching.unused(state, matches)
  meta["config"]["name"] = f"{config.name}, published {pathlib.Path(source).name}"
  meta["published"] = {
    "source": pathlib.Path(source).name,
    "source_sha256": file_sha256(source),
    "prefixes": [match.prefix for match in matches],
    "unused": unused,
  }
  _save(_train_state(config, method, *trees), meta, out)
  others = sorted(set(method.stacks) - {stack.name})
  return [
    *(f"network {k}: {match.describe()}" for k, match in enumerate(matches)),
    *([f"Fresh, not in the source: {', '.join(others)}"] if others else []),
    *matching.describe_unused(unused, matches),
    *read.describe_left(),
    *notes,
    *alike.notes_of_whole(config.model),
    f"  evaluate     {arguments.command('semiseg_jax.evaluate')} --workdir={out}",
    f"  start there  --config.init_from={out}",
  ]


def _train_state(config: ConfigDict, method: Method, params: Tree, stats: Tree) -> TrainState:
  optimizer = experiment.make_optimizer(config, method)
  drawn = experiment.initial_state(config, method, optimizer, pretrained=False)
  stack = _evaluated(config, method)
  placed = sharding.stack_sharding(stack.mesh, stack.n)
  params, stats = jax.device_put((params, stats), placed)
  step = jnp.full_like(drawn.step, config.train.steps)
  return dataclasses.replace(
    drawn,
    step=step,
    params={**drawn.params, stack.name: params},
    stats={**drawn.stats, stack.name: stats},
  )


def _evaluated(config: ConfigDict, method: Method) -> Stack:
  """The stack that the source fills.

  Raises:
    ConfigError: several architectures, which no published file holds.
  """
  first, *others = experiment.evaluated_members(config, method)
  if others:
    raise ConfigError("A published file holds networks of one architecture: leave model.family=().")
  return first.stack


def _save(state: TrainState, meta: dict[str, Any], out: str) -> None:
  checkpoints = Checkpoints(out)
  try:
    checkpoints.save(state, meta, None)
  finally:
    checkpoints.close()
  provenance.write_json(pathlib.Path(out) / "config.json", seals.sealed(meta["config"]))


def _read_config(arguments: Sequence[str], dataset: str | None) -> ConfigDict:
  """Reads --config=FILE.py:KEY=VALUE,... and --config.KEY=VALUE as training does."""
  values, argv = flags.FlagValues(), ["published", *arguments]
  holder = config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=argv)
  unknown = command_line.parse(argv, holder, "error", values)[1:]
  config = holder.value
  if unknown or config is None:
    said = f", and not {' '.join(unknown)}" if unknown else ""
    raise ConfigError(f"give --config=FILE.py, the config that the weights are for{said}.")
  if dataset:
    config.data.root = dataset
  return config


def main(argv: Sequence[str] | None = None) -> None:
  """Command line."""
  parser = arguments.Parser(
    "data_prep.published",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  parser.add_argument("--source", required=True, help="the file of weights")
  parser.add_argument("--dataset", help="a prepared dataset; default: data.root of the config")
  parser.add_argument("--out", required=True, help="workdir to write")
  parser.add_argument(
    "--prefix",
    action="append",
    default=[],
    help="once for each network, where the source has more of them: model_ema",
  )
  given, rest = parser.parse_known_args(argv)
  with command.ending():
    config = _read_config(rest, given.dataset)
    print("\n".join(prepare(given.source, config, given.out, given.prefix)))


if __name__ == "__main__":
  main()
