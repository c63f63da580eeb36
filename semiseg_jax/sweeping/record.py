"""OUT/sweep.json: the configs that a sweep was begun with; the next start compares them."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from semiseg_jax import files, seals
from semiseg_jax.errors import ConfigError
from semiseg_jax.sweeping import results
from semiseg_jax.sweeping.plan import Planned

FILE = "sweep.json"


def update(out: pathlib.Path, planned: Sequence[Planned]) -> list[str]:
  """Compares the runs with those of earlier starts, and writes the record.

  A run that is new is added; one that was trained with another config is refused; one that is
  planned no more stays in the record.

  Args:
    out: folder of the sweep.
    planned: of this start.

  Returns:
    What is to be said, a line each.

  Raises:
    ConfigError: runs with other configs than at their start, all of them; a damaged record.
  """
  before = _read(out / FILE)
  changed = [line for run in planned if run.title in before for line in _changed(before, run)]
  if changed:
    raise ConfigError.of_all(
      f"{out} holds these runs with other configs:",
      [*changed, "Give them other names, or the sweep another --out; or delete their folders."],
    )
  now = {run.title: json.loads(run.config.to_json()) for run in planned}
  files.write_text(
    out / FILE, json.dumps(seals.sealed({"runs": {**before, **now}}), indent=1) + "\n"
  )
  left = [title for title in before if title not in now]
  return [
    f"{title} is not in the file any more: its folder is left, the table is without it"
    for title in left
  ]


def _changed(before: dict[str, Any], run: Planned) -> list[str]:
  if not _is_begun(run.workdir):
    return []
  try:
    found = results.differences(before[run.title], run.config)
  except ConfigError as error:
    return [f"  {run.title}: {error}"]
  return [f"  {run.title}: {key}: {old!r} then, {new!r} now" for key, (old, new) in found.items()]


def _is_begun(workdir: pathlib.Path) -> bool:
  """Whether a run has checkpoints; those of stages lie in folders of their own."""
  return any(any(workdir.glob(pattern)) for pattern in ("checkpoints/*", "*/checkpoints/*"))


def _read(file: pathlib.Path) -> dict[str, Any]:
  """Title -> config of earlier starts."""
  try:
    fields = json.loads(file.read_bytes())
    wrong = seals.problem(fields, required=True)
  except FileNotFoundError:
    return {}
  except (ValueError, TypeError, AttributeError, RecursionError) as error:
    wrong = f"it cannot be read ({error})"
  if wrong:
    raise ConfigError(
      f"{file}: {wrong}. Delete it, and the same command goes on: every run compares its folder "
      "with its config too."
    )
  return fields["runs"]
