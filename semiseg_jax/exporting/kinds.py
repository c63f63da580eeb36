"""Writes each kind of export, and checks it; paths and formats are chosen by semiseg_jax.export."""

import pathlib
from typing import Any

import jax
import numpy as np

from semiseg_jax.errors import ConfigError, OptionError, WeightsError
from semiseg_jax.evaluation import inference
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.exporting import container, frozen, functions, hub, networks
from semiseg_jax.exporting.check import check
from semiseg_jax.exporting.container import Size
from semiseg_jax.models.torch import state_dicts
from semiseg_jax.models.torch.files import write_state_dict

Said = list[str]  # what was written, and lines of how it does
UNCHECKED = "  NOTE not run again from a clean process (--check=no)"


def to_semiseg(
  path: pathlib.Path,
  trained: Trained,
  network: str,
  about: dict[str, Any],
  size: Size | None,
  checked: bool,
) -> Said:
  """Writes StableHLO programs; see `frozen.freeze`."""
  made = frozen.freeze(trained, network, size, about)
  container.write(path, made.about, made.weights, container.serialized(made.programs))
  takes = f"pictures of {size[0]}x{size[1]}" if size else "pictures of any size"
  said = [f"a frozen function of {takes} for {', '.join(made.about['platforms'])}"]
  said.append(f"  {made.about['promise']['text']}")
  run = lambda: check(path, trained, network, kind="semiseg", size=size)
  return [*said, run() if checked else UNCHECKED]


def to_onnx(
  path: pathlib.Path,
  trained: Trained,
  network: str,
  about: dict[str, Any],
  size: Size | None,
  checked: bool,
) -> Said:
  """Writes an ONNX file, see `onnx_file.write`; for one picture where any number fails."""
  from semiseg_jax.exporting import onnx_file

  size = size or inference.grid(trained.config, trained.members).crop
  chosen = functions.chosen(trained, network)

  def made(batch: int | None, count: str) -> Said:
    nodes = onnx_file.write(path, trained, chosen, size, about, batch)
    said = [f"an ONNX graph of {nodes} nodes for {count} of {size[0]}x{size[1]}"]
    if not checked:
      return [*said, UNCHECKED]
    return [*said, check(path, trained, network, kind="onnx", size=size, batch=batch or 2)]

  try:
    return made(None, "any number of pictures")
  except WeightsError as error:
    lost = str(error).partition("\n")[0]
    print(f"NOTE {lost}\nNOTE so it is tried for one picture at a time")
    return made(1, "one picture")


def to_hub(
  path: pathlib.Path,
  trained: Trained,
  network: str,
  about: dict[str, Any],
  card: str,
  checked: bool,
) -> Said:
  """Writes a folder for a hub; see `hub.write`."""
  chosen = functions.chosen(trained, "mean" if network == "all" else network)
  hub.write(path, trained, chosen, about, card)
  said = [f"{', '.join((hub.WEIGHTS, hub.DESCRIPTION, hub.CARD))}; nothing is uploaded"]
  compared = "mean" if len(chosen) > 1 else str(chosen[0])
  return [*said, check(path, trained, compared, kind="hub") if checked else UNCHECKED]


def state_dict(trained: Trained, network: str) -> dict[str, np.ndarray]:
  """Returns the PyTorch state dict of network '0', '1', ... or of 'all'.

  Raises:
    ConfigError: no such network, or one that PyTorch does not have.
  """
  state: dict[str, np.ndarray] = {}
  for prefix, k in _prefixes(trained, network).items():
    member, *trees = trained.network(k)
    params, stats = jax.tree.map(lambda leaf: leaf[0], jax.device_get(trees))
    try:
      state |= state_dicts.to_state_dict(member.stack.network, params, stats, prefix)
    except WeightsError as error:
      raise OptionError(
        f"network {k} cannot be a PyTorch state dict ({str(error).rstrip('.')}): "
        "--out=FILE.semiseg or .onnx writes it as a function, --out=FOLDER --card its weights."
      ) from error
  return state


def to_state_dict(path: pathlib.Path, trained: Trained, network: str, checked: bool) -> Said:
  """Writes a PyTorch state dict; it is checked as what our network makes of it again."""
  state = state_dict(trained, network)
  write_state_dict(path, state)
  said = [f"{len(state)} tensors"]
  if not checked or trained.labels_pictures:
    return [*said, UNCHECKED] if not checked else said
  prefixes = _prefixes(trained, network)
  chosen = list(prefixes.values())
  line = check(
    path,
    trained,
    "mean" if len(chosen) > 1 else str(chosen[0]),
    kind="state dict",
    networks=networks.describe(trained, chosen),
    prefixes=list(prefixes),
  )
  return [*said, line]


def _prefixes(trained: Trained, network: str) -> dict[str, int]:
  """Beginning of the names -> network."""
  if network == "all":
    return {f"branch{k + 1}.": k for k in range(trained.n)}
  if network.isdigit() and int(network) < trained.n:
    return {"": int(network)}
  raise ConfigError(f"--network={network!r}: 0 to {trained.n - 1}, or 'all'.")
