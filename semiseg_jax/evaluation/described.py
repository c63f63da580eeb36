"""What a checkpoint says of the networks that it holds."""

import json
import pathlib
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from semiseg_jax import seals, stacks
from semiseg_jax.data import options as data
from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.evaluation.options import Options, whole_as_before
from semiseg_jax.members import Member
from semiseg_jax.models import network
from semiseg_jax.options import completed, flat, keys

STAGES = "stages.json"
BASELINE = "supervised"  # the folder in a run's with its labels alone, see `train.baseline`
_CRITICS = ("discriminator",)  # of runs whose checkpoints do not describe their networks


def last_stage(workdir: str | pathlib.Path) -> pathlib.Path:
  """Returns the folder whose checkpoints count: of a run in several stages that of the last one.

  Raises:
    CheckpointError: the file that names the stages is damaged.
  """
  folder = pathlib.Path(workdir)
  file = folder / STAGES
  if not file.is_file() or (folder / "checkpoints").is_dir():
    return folder
  try:
    named = json.loads(file.read_bytes())
    wrong = seals.problem(named)
    if wrong:
      raise ValueError(wrong)
    return folder / named["stages"][-1]
  except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
    raise CheckpointError(
      f"{file} is damaged: start the command that trained the run once more, which writes it anew, "
      "or give the folder of a stage."
    ) from error


def members(
  meta: dict[str, Any], config: ConfigDict, mesh: Mesh
) -> tuple[tuple[Member, ...], tuple[dict[str, Any], ...]]:
  """Returns how the evaluated networks are run, and what is said of each member.

  Args:
    meta: of the checkpoint.
    config: of its run, completed; `eval.stack` chooses the nets.
    mesh: to run on.

  Raises:
    CheckpointError: the checkpoint does not say what it was trained on, or its networks.
    ConfigError: no such net.
  """
  missing = {"dataset", "stacks"} - ({"stacks"} if "nets" in meta else set()) - meta.keys()
  if missing:
    raise CheckpointError(
      f"the checkpoint is damaged: its meta lacks {', '.join(sorted(missing))}; use another step."
    )
  try:
    return _members(meta, config, mesh)
  except (AttributeError, KeyError, TypeError, ValueError) as error:  # of earlier versions
    raise CheckpointError(  # which sealed nothing
      f"the checkpoint is damaged: its meta does not tell its networks ({error!r}); use another "
      "step."
    ) from error


def _members(
  meta: dict[str, Any], config: ConfigDict, mesh: Mesh
) -> tuple[tuple[Member, ...], tuple[dict[str, Any], ...]]:
  about = nets(meta, config)
  chosen = config.eval.stack.split("+") if config.eval.stack else meta.get("evaluated")
  chosen = chosen or ["networks"]
  unknown = [name for name in chosen if name not in about]
  if unknown or len(set(chosen)) < len(chosen):
    raise ConfigError(
      f"eval.stack={config.eval.stack!r}: the checkpoint has {', '.join(about)}, or several "
      "joined with '+'."
    )
  described = tuple(one for name in chosen for one in about[name])
  return _built(described, meta["dataset"], mesh), described


def _built(
  described: tuple[dict[str, Any], ...], dataset: dict[str, Any], mesh: Mesh
) -> tuple[Member, ...]:
  found, first = [], 0
  for one in described:
    built = network.build_network(
      complete_model(one["model"]),
      num_classes=len(dataset["classes"]),
      in_channels=dataset["channels"],
    )
    stack = stacks.whole(one["stack"], one["copies"], built, mesh)
    found.append(Member(stack, first, tuple(one["shift"]), tuple(one["scale"])))
    first += one["copies"]
  return tuple(found)


def nets(meta: dict[str, Any], config: ConfigDict) -> dict[str, list[dict[str, Any]]]:
  """Returns net -> its members as a checkpoint describes them; nets that segment only."""
  if "nets" in meta:
    return meta["nets"]
  model = config.model.to_dict()
  return {
    name: [{"stack": name, "copies": n, "model": model, "shift": (), "scale": ()}]
    for name, n in meta["stacks"].items()
    if name not in _CRITICS
  }


def complete(saved: dict[str, Any]) -> ConfigDict:
  """Returns the config of a checkpoint with defaults for the keys that evaluation reads.

  Raises:
    CheckpointError: it is no config.
  """
  try:
    old = flat({block: saved[block] for block in ("model", "data", "eval")})
    config = dict(saved)
    config["model"] = complete_model(saved["model"])
    config["data"] = {**saved["data"], **completed(data.Options, "data.", old)}
    config["eval"] = completed(Options, "eval.", whole_as_before(old))
    return ConfigDict(config)
  except (KeyError, TypeError, AttributeError, ValueError) as error:
    raise CheckpointError(f"the checkpoint's config cannot be read ({error!r})") from error


def complete_model(saved: dict[str, Any]) -> ConfigDict:
  """Returns a block `model` with the keys of today, under former names or at their defaults.

  Raises:
    CheckpointError: keys that this version does not know, all of them.
  """
  old = flat(saved, "model.")
  parts = {"": network.Options, **{f"{k}.": part for k, part in network.option_blocks().items()}}
  known = {
    path
    for block, part in parts.items()
    for name, (_, key) in keys(part).items()
    for path in (f"model.{block}{name}", *key.was)
  }
  unknown = [f"{path}={value!r}" for path, value in old.items() if path not in known]
  if unknown:
    raise CheckpointError(
      f"the network of the checkpoint was made with {', '.join(unknown)}, which this version does "
      "not know: use the version that made it."
    )
  found = {block: completed(part, f"model.{block}", old) for block, part in parts.items()}
  top = found.pop("")
  return ConfigDict({**top, **{block[:-1]: values for block, values in found.items()}})
