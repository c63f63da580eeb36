"""Writes a trained network as a PyTorch state dict with the published names.

    python -m semiseg_jax.export --workdir=runs/voc --out=model.pth
    python -m semiseg_jax.export --workdir=runs/voc --out=cps.safetensors --network=all --step=best

The suffix of --out chooses the format: .pth or .pt (these need torch), .safetensors, .npz.  With
--network=all the names of network 0, 1, ... begin with branch1., branch2., as CPS publishes them.
`python -m data_prep.published` is the way back.
"""

import os
from collections.abc import Sequence

import jax
import numpy as np

from semiseg_jax import arguments, console, signals
from semiseg_jax.errors import ConfigError, ending
from semiseg_jax.evaluation import inference
from semiseg_jax.models.torch import state_dicts
from semiseg_jax.models.torch.files import write_state_dict
from semiseg_jax.workdir import store


def state_dict(trained: inference.Trained, network: str) -> dict[str, np.ndarray]:
  """Returns the state dict of network '0', '1', ... or of 'all'.

  Raises:
    ConfigError: no such network.
    WeightsError: one that PyTorch does not have.
  """
  if network == "all":
    chosen = {f"branch{k + 1}.": k for k in range(trained.n)}
  elif network.isdigit() and int(network) < trained.n:
    chosen = {"": int(network)}
  else:
    raise ConfigError(f"--network={network!r}: 0 to {trained.n - 1}, or 'all'.")
  state: dict[str, np.ndarray] = {}
  for prefix, k in chosen.items():
    member, *trees = trained.network(k)
    params, stats = jax.tree.map(lambda leaf: leaf[0], jax.device_get(trees))
    state |= state_dicts.to_state_dict(member.stack.network, params, stats, prefix)
  return state


def export(workdir: str, out: str, *, network: str = "0", step: int | str = "last") -> str:
  """Writes `out` and returns what was done.

  Args:
    workdir: of a training run.
    out: file to write, also gs://... or s3://...; its suffix chooses the format.
    network: an index, or 'all' under branch1., branch2., ...
    step: a checkpoint's step, 'last' or 'best'.

  Raises:
    CheckpointError: nothing to restore.
    ConfigError: no such network.
    WeightsError: a network that PyTorch does not have, another suffix, or torch is absent.
  """
  with store.opened(workdir, writes=False) as folder:
    trained = inference.load_trained(folder, step)
  state = state_dict(trained, network)
  parent, name = os.path.split(out)
  with store.opened(parent or ".", reads=False) as folder:
    write_state_dict(os.path.join(folder, name), state)
  return (
    f"{trained.names}, network {network} of step {trained.step}: {len(state)} tensors -> {out}\n"
    + describe_input(trained)
  )


def describe_input(trained: inference.Trained) -> str:
  """Returns what the networks take: channels, values, normalization."""
  data, reading = trained.config.data, trained.dataset.get("reading") or {}
  taken = ", ".join(f"{key} {value}" for key, value in sorted(reading.items()))
  return (
    f"  takes {trained.dataset['channels']} channels, (uint8 / 255 - mean) / std with mean "
    f"{tuple(data.mean)}, std {tuple(data.std)}" + (f"; files read with {taken}" if taken else "")
  )


def main(argv: Sequence[str] | None = None) -> None:
  """The command line."""
  parser = arguments.Parser("semiseg_jax.export", __doc__.partition("\n")[0])
  parser.add_argument("--workdir", required=True, help="of a training run: a folder, gs://, s3://")
  parser.add_argument("--out", required=True, help=".pth, .pt, .safetensors or .npz file to write")
  parser.add_argument("--network", default="0", help="0, 1, ..., or 'all'")
  parser.add_argument("--step", default="last", help="a checkpoint's step, 'last' or 'best'")
  flags = parser.parse_args(argv)
  console.prepare()
  with signals.answered(), ending("export"):
    print(export(flags.workdir, flags.out, network=flags.network, step=flags.step))


if __name__ == "__main__":
  main()
