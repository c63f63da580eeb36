"""A folder ready for a model hub: weights, description and card; also read back from one.

* model.safetensors: every parameter and statistic as it was trained, float32 (names: `functions`).
* config.json: networks, data and config of the run under a seal, with the SHA-256 of the weights.
* README.md: the card.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import safetensors.numpy
from jax.sharding import Mesh

from semiseg_jax import files, seals
from semiseg_jax.errors import ConfigError, WeightsError
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.exporting import functions, networks

FORMAT, VERSION = "semiseg_jax networks", 1
WEIGHTS, DESCRIPTION, CARD = "model.safetensors", "config.json", "README.md"


def write(
  folder: pathlib.Path, trained: Trained, chosen: list[int], about: Mapping[str, Any], card: str
) -> None:
  """Writes the three files into a folder.

  Args:
    folder: which.
    trained: the networks.
    chosen: which of them.
    about: see `about.describe`.
    card: text of README.md.
  """
  data = safetensors.numpy.save(functions.weights(trained, chosen), {"format": "np"})
  described = {
    "format": FORMAT,
    "format_version": VERSION,
    "library_name": "semiseg_jax",
    **about,
    **networks.describe(trained, chosen),
    "sha256": {WEIGHTS: hashlib.sha256(data).hexdigest()},
  }
  files.write_bytes(folder / WEIGHTS, data)
  files.write_text(folder / DESCRIPTION, json.dumps(seals.sealed(described), indent=1) + "\n")
  files.write_text(folder / CARD, card)


def is_folder(path: str | os.PathLike[str]) -> bool:
  """Whether a path is such a folder, though its weights be missing, and not that of a run."""
  if os.path.isfile(os.path.join(path, WEIGHTS)):
    return True
  about = pathlib.Path(path, DESCRIPTION)
  try:
    said = json.loads(about.read_bytes())
  except (OSError, ValueError, RecursionError):
    return False
  return isinstance(said, dict) and said.get("format") == FORMAT


def load_trained(
  folder: str | os.PathLike[str], step: int | str, mesh: Mesh, stack: str | None = None
) -> Trained:
  """Reads the networks of a folder; nothing of it is run.

  Args:
    folder: which.
    step: 'last', or the one that it holds.
    mesh: where to put them.
    stack: None; there is one.

  Raises:
    WeightsError: damaged, of another kind or in part.
    ConfigError: another step or stack than it holds.
  """
  folder = pathlib.Path(folder)
  about = _description(folder)
  if not (folder / WEIGHTS).is_file():
    raise WeightsError(
      f"{folder} is a folder for a hub whose weights are missing: there is no {WEIGHTS} beside "
      f"{DESCRIPTION}; copy it again (of a git clone: git lfs pull), or export anew."
    )
  if str(step) not in ("last", str(about["step"])) or stack:
    asked = f"stack {stack!r}" if stack else f"step {step!r}"
    raise ConfigError(f"{folder} holds the networks of step {about['step']} and no {asked}.")
  try:
    data = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(data).hexdigest() != about["sha256"][WEIGHTS]:
      raise WeightsError(f"{WEIGHTS} is not the file that {DESCRIPTION} was written with.")
    return networks.rebuild(about, safetensors.numpy.load(data), mesh)
  except (WeightsError, safetensors.SafetensorError, KeyError) as error:
    raise WeightsError(f"{folder} is damaged: {error} Copy it again, or export anew.") from error


def _description(folder: pathlib.Path) -> dict[str, Any]:
  path = folder / DESCRIPTION
  try:
    about = json.loads(path.read_bytes())
  except (OSError, ValueError, RecursionError) as error:
    raise WeightsError(f"{path} cannot be read ({error}): copy the folder again.") from error
  if not isinstance(about, dict) or about.get("format") != FORMAT:
    raise WeightsError(
      f"{folder} holds networks of another program: give a folder that semiseg_jax.export --card "
      "wrote."
    )
  wrong = seals.problem(about, required=True)
  if wrong:
    raise WeightsError(f"{path} is damaged ({wrong}): copy the folder again, or export anew.")
  if about["format_version"] > VERSION:
    raise WeightsError(f"{path} is of a later version of semiseg_jax: pip install -U semiseg_jax.")
  return about
