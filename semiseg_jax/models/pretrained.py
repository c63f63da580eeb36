"""Pretrained backbones in our own format, as `python -m data_prep.pretrained` writes them.

A folder holds PARAMS_FILE, float32 arrays under 'params/<path>' and 'batch_stats/<path>', and
METADATA_FILE, which names the backbone, the source and the hash of PARAMS_FILE.
"""

import hashlib
import json
import os
import pathlib
from typing import Any

import numpy as np
from flax import traverse_util

from semiseg_jax.errors import WeightsError
from semiseg_jax.models.weight_sources import how_to_get

PARAMS_FILE = "params.npz"
METADATA_FILE = "metadata.json"


def file_sha256(path: str | os.PathLike[str]) -> str:
  """Returns the SHA-256 of a file in hexadecimal."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def load_backbone(path: str | os.PathLike[str], backbone: str) -> tuple[Any, Any]:
  """Loads the encoder's part of a network.

  Args:
    path: folder written by `data_prep.pretrained`.
    backbone: name the weights must have been prepared for, as `Network.backbone`.

  Returns:
    (params, batch_stats) for the key 'encoder', nested dicts of float32 numpy arrays.

  Raises:
    WeightsError: nothing there, another backbone, or a file that is not the one written.
  """
  folder = pathlib.Path(path)
  metadata = _read_metadata(folder, backbone)
  if metadata["backbone"] != backbone:
    raise WeightsError(
      f"{folder} holds weights of {metadata['backbone']!r}, but the backbone "
      f"is {backbone!r}; give the folder prepared for it."
    )
  params_path = folder / PARAMS_FILE
  if not params_path.exists() or file_sha256(params_path) != metadata["params_sha256"]:
    raise WeightsError(
      f"{params_path} is not the file that {METADATA_FILE} was written with "
      "(copied in part?); run `python -m data_prep.pretrained` again."
    )
  with np.load(params_path) as arrays:
    tree = traverse_util.unflatten_dict(dict(arrays), sep="/")
  return tree["params"], tree.get("batch_stats", {})  # transformers have no statistics


def _read_metadata(folder: pathlib.Path, backbone: str) -> dict[str, Any]:
  try:
    metadata = json.loads((folder / METADATA_FILE).read_text())
    if not {"backbone", "params_sha256"} <= metadata.keys():
      raise KeyError(f"it names {', '.join(metadata)}")
    return metadata
  except (
    ValueError,
    KeyError,
    AttributeError,
    RecursionError,
  ) as error:  # JSON of another kind, or none
    raise WeightsError(
      f"{folder / METADATA_FILE} is damaged ({error}); run `python -m data_prep.pretrained` again."
    ) from error
  except FileNotFoundError as error:
    raise WeightsError(
      f"{folder} holds no pretrained weights. {how_to_get(backbone, str(folder))}"
    ) from error
