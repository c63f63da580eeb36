"""Writes a trained network for other programs and people; each export is run again and compared.

    python -m semiseg_jax.export --workdir=runs/voc --out=net.semiseg     # frozen, for jax
    python -m semiseg_jax.export --workdir=runs/voc --out=net.onnx --size=512x512
    python -m semiseg_jax.export --workdir=runs/voc --out=model.pth
    python -m semiseg_jax.export --workdir=runs/voc --out=cps.safetensors --network=all --step=best
    python -m semiseg_jax.export --workdir=runs/voc --out=hub/voc --card

The suffix of --out chooses the format:

* .semiseg: StableHLO by jax.export, for pictures of any size on CPU, GPU and TPU, normalization
  inside.  `load_predictor` and semiseg_jax.predict take the file in the place of a run.
* .onnx: pictures of one size, any number of them.
* .pth or .pt (these need torch), .safetensors, .npz: a PyTorch state dict with the published
  names.  With --network=all those of network 0, 1, ... begin with branch1., branch2., as CPS
  publishes them; `python -m data_prep.published` is the way back.
* --card: a folder ready for a model hub, which `load_predictor` takes; nothing is uploaded.
"""

import datetime
import os
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from semiseg_jax import arguments, console, signals
from semiseg_jax.errors import ConfigError, ending
from semiseg_jax.evaluation import protocol_flags
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.windows import Size
from semiseg_jax.exporting import about, card, container, kinds, predicting
from semiseg_jax.exporting.staging import staged
from semiseg_jax.models.torch import files as torch_files
from semiseg_jax.workdir import store

state_dict = kinds.state_dict
ONNX = ".onnx"


def export(
  workdir: str,
  out: str,
  *,
  network: str = "0",
  step: int | str = "last",
  stack: str | None = None,
  size: Size | None = None,
  hub_folder: bool = False,
  checked: bool = True,
) -> str:
  """Writes `out`, whole or not at all, and returns what was done.

  Args:
    workdir: of a training run, or a folder for a hub.
    out: file or folder to write, also gs://... or s3://...; its suffix chooses the format.
    network: an index; 'mean' of all as one; 'all' in a PyTorch state dict or a folder for a hub.
    step: a checkpoint's step, 'last' or 'best'.
    stack: which networks, e.g. 'teacher'; the config's `eval.stack` by default.
    size: (height, width) of the pictures that the export takes; None for any, of ONNX for the crop.
    hub_folder: write a folder for a hub.
    checked: run the export in a process of its own, and compare.

  Raises:
    CheckpointError: nothing to restore.
    ConfigError: no such network, one that PyTorch does not have, another suffix, or an option that
      the format does not have.
    WeightsError: a network that ONNX does not have, a package that is absent, or an export that
      answers otherwise than the network.
  """
  suffix = "hub" if hub_folder else pathlib.PurePath(out).suffix
  _check_options(out, suffix, network, size)
  with store.opened(workdir, writes=False) as folder:
    trained = predicting.load_trained(folder, step, _on_cpu(), stack)
    scores = card.results(folder, trained, network) if hub_folder else []
  run = os.path.basename(os.path.abspath(workdir))
  command = _command(workdir, out, trained, network, stack, size, hub_folder)
  said = about.describe(
    trained, network=network, command=command, run=run, day=datetime.date.today()
  )
  with staged(out, folder=hub_folder) as path:
    if suffix == "hub":
      done = kinds.to_hub(path, trained, network, said, card.text(said, scores, out), checked)
    elif suffix == container.SUFFIX:
      done = kinds.to_semiseg(path, trained, network, said, size, checked)
    elif suffix == ONNX:
      done = kinds.to_onnx(path, trained, network, said, size, checked)
    else:
      done = kinds.to_state_dict(path, trained, network, checked)
  headline = f"{trained.names}, network {network} of step {trained.step}: {done[0]} -> {out}"
  return "\n".join((headline, *done[1:], describe_input(trained)))


def _check_options(out: str, suffix: str, network: str, size: Size | None) -> None:
  known = (container.SUFFIX, ONNX, *torch_files.SUFFIXES)
  if suffix not in ("hub", *known):
    raise ConfigError(
      f"--out {out} ends in {suffix!r}; possible: {', '.join(known)}, or a folder with --card."
    )
  frozen = suffix in (container.SUFFIX, ONNX)
  if size and not frozen:
    raise ConfigError("--size is of .semiseg and .onnx files; weights alone take any size.")
  if network == "all" and frozen:
    raise ConfigError(f"--network=all: a {suffix} file is one function; 'mean' joins them in it.")
  if network == "mean" and suffix in torch_files.SUFFIXES:
    raise ConfigError("--network='mean': PyTorch has no such network; 'all' writes every one.")


def _command(
  workdir: str,
  out: str,
  trained: Trained,
  network: str,
  stack: str | None,
  size: Size | None,
  hub_folder: bool,
) -> str:
  words = {"workdir": workdir, "step": trained.step, "network": network, "stack": stack}
  words |= {"size": size and "{}x{}".format(*size), "out": os.path.basename(out.rstrip("/"))}
  given = [shlex.quote(f"--{name}={value}") for name, value in words.items() if value is not None]
  return " ".join(("python -m semiseg_jax.export", *given, *["--card"] * hub_folder))


def _on_cpu() -> Mesh:
  """Where the export is traced and compared: a CPU, whatever devices are there, if one may be."""
  try:
    devices = jax.devices("cpu")
  except RuntimeError:  # JAX_PLATFORMS names others
    devices = jax.local_devices()
  return Mesh(np.array(devices[:1]).reshape(1, 1), ("replica", "data"))


def describe_input(trained: Trained) -> str:
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
  parser.add_argument(
    "--out",
    required=True,
    help=".semiseg, .onnx, .pth, .pt, .safetensors or .npz file to write; with --card a folder",
  )
  parser.add_argument(
    "--network", default="0", help="0, 1, ..., 'mean' of all as one, or 'all' (PyTorch, hub)"
  )
  parser.add_argument("--step", default="last", help="a checkpoint's step, 'last' or 'best'")
  parser.add_argument("--stack", help="'teacher' where the method has one; default eval.stack")
  parser.add_argument(
    "--size",
    type=protocol_flags.parse_size,
    metavar="SIZE",
    help="that .semiseg (default: any) or .onnx (default: the crop) takes: 512 or 512x1024",
  )
  parser.add_argument("--card", action="store_true", help="write a folder for a model hub")
  parser.add_argument(
    "--check", choices=("yes", "no"), default="yes", help="run it again from a clean process"
  )
  flags: dict[str, Any] = vars(parser.parse_args(argv))
  console.prepare()
  with signals.answered(), ending("export"):
    checked = flags.pop("check") == "yes"
    print(export(hub_folder=flags.pop("card"), checked=checked, **flags))


if __name__ == "__main__":
  main()
