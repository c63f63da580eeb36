"""Result files: the numbers first, and behind them, in one block, how they were obtained.

The block ends with the seal of all fields, see `seals`; files of earlier versions have none.
"""

import json
import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from semiseg_jax import seals

PROVENANCE = "provenance"  # the block
# Of it.
_FIELDS = ("protocol", "split", "dataset", "trained_on", "config", "versions", "commit")


def text(fields: Mapping[str, Any]) -> str:
  """Returns the content of a result file; innermost lists are a line each.

  Args:
    fields: flat, as `read` gives them back.
  """
  numbers = {name: value for name, value in fields.items() if name not in _FIELDS}
  behind = {name: fields[name] for name in _FIELDS if name in fields}
  behind[seals.SEAL] = seals.sealed(fields)[seals.SEAL]
  written = json.dumps({**numbers, PROVENANCE: behind}, indent=1, allow_nan=False)
  in_line = lambda row: re.sub(r"\s+", " ", row[0]).replace("[ ", "[").replace(" ]", "]")
  return re.sub(r"\[\n[\s\d,.-]+\]", in_line, written) + "\n"


def read(file: str | os.PathLike) -> dict[str, Any]:
  """Returns the fields of a result file, flat; those of earlier versions had no block.

  Raises:
    OSError: it cannot be read.
    ValueError: it is damaged.
  """
  try:
    found = json.loads(pathlib.Path(file).read_bytes())
  except RecursionError as error:
    raise ValueError("it is nested too deep") from error
  if not isinstance(found, dict):
    raise ValueError(f"{file} holds no fields.")
  behind = found.pop(PROVENANCE, {})
  fields = {**found, **behind}
  if wrong := seals.problem(fields):
    raise ValueError(wrong)
  fields.pop(seals.SEAL, None)
  return fields
