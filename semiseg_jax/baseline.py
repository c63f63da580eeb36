"""`train.baseline`: labels alone are trained beside a method, and both are shown side by side.

WORKDIR/supervised is a run of its own: the same labeled pictures, steps, labeled batches, network,
optimizer, seed and evaluation as the run in WORKDIR, by `method.name='supervised'`.  It is trained
first.  When both are complete, WORKDIR holds

    baseline.json     both scores, and the result files that they are of
    baseline.png      picture | truth | labels alone | with unlabeled pictures
"""

import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from ml_collections import ConfigDict

from semiseg_jax import continuing, files, predict
from semiseg_jax.config import reads
from semiseg_jax.data import opening
from semiseg_jax.data.splits import resolve
from semiseg_jax.errors import UserError
from semiseg_jax.evaluation import described, pictures, protocol, result_files
from semiseg_jax.evaluation.described import BASELINE
from semiseg_jax.methods import contract
from semiseg_jax.workdir import checkpoints, store

NAME = "baseline"  # of both files
_SHOWN = 4  # pictures of the sheet


class Part(NamedTuple):
  """One of the two runs: its folder, its result file, and the fields of that."""

  folder: pathlib.Path
  file: pathlib.Path
  fields: dict[str, Any]

  @property
  def labels(self) -> str:
    """'15 labels', as it was trained."""
    count = self.fields["trained_on"]["splits"]["labeled"]["ids"]
    return f"{count} label{'s' * (count != 1)}"


def config_of(config: ConfigDict) -> ConfigDict:
  """Returns the config of the labels alone: what they do not read is at its default.

  Auxiliary logits keep the weight that the method gives them.
  """
  alone = ConfigDict(config.to_dict())
  alone.update_from_flattened_dict(
    {
      "name": f"{config.name}, labels alone",
      "method.name": "supervised",
      "method.networks": 1,
      "method.add": (),
      "model.family": (),
      "model.projection.kind": "none",
      "eval.network": "0",
      "eval.stack": "",
      "runtime.replica": 1,
      "train.baseline": False,
    }
  )
  for name, module in contract.parts(config).items():
    if getattr(module, "AUXILIARY", ""):
      alone.method.supervised.weight_auxiliary = config.method[name][module.AUXILIARY]
  return reads.only_read(alone)


def folder_of(workdir: str) -> str:
  """Returns where the labels alone are trained."""
  return str(pathlib.Path(workdir) / BASELINE)


def compare(config: ConfigDict, workdir: str) -> None:
  """Prints and draws what the unlabeled pictures were worth; called when both runs are complete.

  Nothing is computed again where it is there already.  A sheet that cannot be drawn is said in a
  line: both runs are as they were.

  Args:
    config: of the run in `workdir`.
    workdir: as `store.opened` gave it.
  """
  if jax.process_index():
    return
  root = pathlib.Path(workdir)
  alone, both = _part(pathlib.Path(folder_of(workdir))), _part(described.last_stage(workdir))
  if alone is None or both is None:  # of which evaluation has said why
    return
  told, sheet = root / f"{NAME}.json", root / f"{NAME}.png"
  content = json.dumps(_summary(root, alone, both), indent=1) + "\n"
  if not (sheet.is_file() and told.is_file() and told.read_text() == content):
    sheet.unlink(missing_ok=True)
    files.write_text(told, content)
    if jax.process_count() == 1:
      _draw_or_say(config, alone, both, sheet)
    store.push(workdir)
  if sheet.is_file():
    print(f"  side by side {store.named(sheet)}", flush=True)
  print(f"\n{sentence(alone, both)}", flush=True)


def sentence(alone: Part, both: Part) -> str:
  """Returns the answer: '15 labels alone: 41.2; with 465 unlabeled pictures: 47.0 (mIoU ...)'."""
  return (
    f"{alone.labels} alone: {100 * alone.fields['miou']:.1f}; with {_unlabeled(both)} unlabeled "
    f"pictures: {100 * both.fields['miou']:.1f} (mIoU on {both.fields['pictures']} pictures of "
    f"{both.fields['split']['name']}, {both.fields['checkpoint_step']} steps each)"
  )


def _part(folder: pathlib.Path) -> Part | None:
  """The newest checkpoint's own evaluation; None where there is none."""
  found = checkpoints.newest(str(folder))
  if found is None:
    return None
  step, meta = found
  how = protocol.from_config(described.complete(meta["config"]).eval)
  sha256 = meta["dataset"]["splits"]["val"]["sha256"]
  file = continuing.result(str(folder), step, how.as_dict(), sha256)
  return Part(folder, pathlib.Path(file), result_files.read(file)) if file else None


def _unlabeled(part: Part) -> int:
  return part.fields["trained_on"]["splits"]["unlabeled"]["ids"]


def _summary(root: pathlib.Path, alone: Part, both: Part) -> dict[str, Any]:
  """What baseline.json holds; paths are relative to it."""
  of = lambda part: {
    "miou": part.fields["miou"],
    "method": part.fields["config"]["method"]["name"],
    "checkpoint_step": part.fields["checkpoint_step"],
    "splits": part.fields["trained_on"]["splits"],
    "result": str(part.file.relative_to(root)),
  }
  return {"labels_alone": of(alone), "with_unlabeled": of(both)}


def _draw_or_say(config: ConfigDict, alone: Part, both: Part, sheet: pathlib.Path) -> None:
  try:
    pictures.write_png(sheet, _sheet(config, alone, both))
  except (UserError, OSError, MemoryError, jax.errors.JaxRuntimeError) as error:
    logging.error("%s was not drawn: %s", store.named(sheet), " ".join(str(error).split()))


def _sheet(config: ConfigDict, alone: Part, both: Part) -> np.ndarray:
  dataset = opening.open_dataset(config.data)
  ids = resolve(dataset, config.data.val).ids
  chosen = np.linspace(0, len(ids) - 1, min(_SHOWN, len(ids))).round().astype(int)
  examples = [dataset.read(dataset.index(ids[i])) for i in chosen]
  images = [example.image for example in examples]
  first, second = (
    [
      pictures.reduced(pictures.Shown(e.id, e.image, e.label, labels))
      for e, labels in zip(examples, predict.load_predictor(str(part.folder))(images), strict=True)
    ]
    for part in (alone, both)
  )
  return pictures.sheet(
    first,
    dataset.info.classes,
    dataset.info.colors,
    (f"{alone.labels} alone", f"with {_unlabeled(both)} unlabeled"),
    [(row.prediction,) for row in second],
  )
