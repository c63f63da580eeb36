"""Stores what the networks of a trained run say of unlabeled pictures, to train others on it.

    python -m semiseg_jax.label --workdir=runs/cps --out=runs/cps_labels
    python -m semiseg_jax.main --config=configs/cps_toy.py:method=self_training \
      --config.data.targets=runs/cps_labels --workdir=runs/student

Labels and confidence of the unlabeled pictures of the run, by the mean of its networks.  --out
appears when it is complete.  What is not given is taken from the run's config.

    python -m semiseg_jax.label --workdir=runs/cps --images=photos --out=photos_labels \
      --threshold 0.9 car=0.7                  # or --keep_share 0.5, of each class

labels a folder of plain pictures, or a --list of them: masks and confidences that
data_prep.folder and data_prep.targets take, or with --form=dataset a prepared data set.
"""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from semiseg_jax import arguments, console, memory, signals
from semiseg_jax.data import opening, shard_digests, splits
from semiseg_jax.data.targets import Targets, TargetsInfo
from semiseg_jax.errors import ConfigError, ending
from semiseg_jax.evaluate import add_network_flags, check_dataset, take_gating
from semiseg_jax.evaluation import (
  chosen_files,
  folder_labels,
  inference,
  kept_labels,
  labeling,
  protocol,
  source_ids,
)
from semiseg_jax.evaluation import gate as gates
from semiseg_jax.evaluation.gate import Gating
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.kept_labels import Rule
from semiseg_jax.evaluation.labeled_files import LeftOut
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.predict import add_reading_flags, told
from semiseg_jax.wording import counted
from semiseg_jax.workdir import store


def label(
  workdir: str,
  out: str,
  *,
  labeled: str | None = None,
  unlabeled: str | None = None,
  data_root: str | None = None,
  threshold: Sequence[str | float] = (),
  keep_share: float | None = None,
  topk: int = 0,
  overwrite: bool = False,
  step: int | str = "last",
  network: str | None = None,
  stack: str | None = None,
  gate: Gating | str | None = None,
  **seen: Any,
) -> TargetsInfo:
  """Writes the folder `out` of stored targets, whole or not at all, and returns what is in it.

  Args:
    workdir: of the training run.
    out: the folder, which must not exist.
    labeled: list of the labeled pictures; the config's `data.labeled` by default.
    unlabeled: those to label: 'rest', 'all', a list, a file; the config's by default.
    data_root: a prepared dataset, or tfds:FOLDER; that of the run by default.
    threshold, keep_share: which labels are kept, see `kept_labels.rule`; all by default.
    topk: soft labels of so many classes are stored, too, see `data.targets`.
    overwrite: replace finished targets at `out`.
    step, stack, gate: see `evaluate`.
    network: an index, several such as '0,2', or 'mean', the default.
    **seen: as for `evaluate`; probabilities are what is added.

  Raises:
    CheckpointError: nothing to restore.
    DataError: dataset or list are unfit, or `out` cannot be written.
    ConfigError: an impossible protocol, no such network or stack, or a gate that does not fit.
    NonFiniteError: the scores hold a NaN or an infinity.
  """
  store.refuse(out, "--out")
  trained, how = _load(workdir, step, stack, None, gate, network=network, **seen)
  data, keep = trained.config.data, _keep(threshold, keep_share, trained)
  dataset = opening.open_again(data, data_root)
  check_dataset(dataset, trained.dataset)
  pool = opening.open_pool(data, dataset)
  shard_digests.compare(shard_digests.folders(pool), most=shard_digests.MOST)
  chosen = splits.make_split(pool, labeled or data.labeled, unlabeled or data.unlabeled, data.train)
  ids, folder = chosen.unlabeled.ids, pathlib.Path(out)
  name = trained.config.name
  labeling.write_labels(
    folder, trained, how, pool, ids, name=name, rule=step, keep=keep, top=topk, overwrite=overwrite
  )
  return Targets.open(folder).info


def label_folder(
  workdir: str,
  images: str | None,
  out: str,
  *,
  listed: str | None = None,
  form: str = "masks",
  ids: str = "train",
  threshold: Sequence[str | float] = (),
  keep_share: float | None = None,
  topk: int = 0,
  overwrite: bool = False,
  reading: Mapping[str, Any] | None = None,
  step: int | str = "last",
  stack: str | None = None,
  gate: Gating | str | None = None,
  **seen: Any,
) -> LeftOut:
  """Labels a folder of plain pictures; `folder_labels` says what is written.

  Files are read as those of the training data were.  Pixels whose label is not kept, or without
  data, get 255 (the greatest id that no class has where 255 is one).

  Args:
    workdir: of the training run.
    images: the folder; with a list, its lines are relative to it.
    out: the folder of masks, or of the data set.
    listed: a text file of paths, see `chosen_files.of_list`.
    form: 'masks', or 'dataset', which is whole or not there.
    ids: of masks: 'train' for 0 to K - 1, 'source' for those of the training data's masks.
    threshold, keep_share, topk: as of `label`; a data set has no soft labels.
    overwrite: replace a finished data set at `out`.
    reading: arguments of `read_picture` that are to be others.
    step, stack, gate: as of `label`.
    **seen: network and others, as of `label`.

  Returns:
    A line for each picture that could not be read; all others are done.

  Raises:
    DataError: as `predict_folder`; for a data set also where no picture can be read.
    CheckpointError, ConfigError, NonFiniteError: as `label`.
  """
  for path, flag in ((images, "--images"), (listed, "--list"), (out, "--out")):
    store.refuse(path or "", flag)
  if form == "dataset" and (topk or ids != "train"):
    raise ConfigError(
      "--form=dataset: a data set has one class of 0 to K - 1 a pixel; leave --topk and --ids out "
      "(label its pictures again with --data_root for soft labels)"
    )
  mesh = Mesh(np.array(jax.local_devices()).reshape(1, -1), ("replica", "data"))
  trained, how = _load(workdir, step, stack, mesh, gate, **seen)
  keep = _keep(threshold, keep_share, trained)
  written = source_ids.with_ignored(source_ids.table(ids, trained.dataset))
  folder = pathlib.Path(out)
  chosen = chosen_files.choose(images, listed, folder)
  return folder_labels.label_files(
    trained,
    how,
    chosen,
    folder,
    form=form,
    ids=written,
    keep=keep,
    top=topk,
    rule=step,
    reading=reading or {},
    overwrite=overwrite,
  )


def _load(
  workdir: str,
  step: int | str,
  stack: str | None,
  mesh: Mesh | None,
  gate: Gating | str | None,
  network: str | None = None,
  **seen: Any,
) -> tuple[Trained, Protocol]:
  """The networks, and how they see pictures."""
  with store.opened(workdir, writes=False) as run:
    trained = inference.load_trained(run, step, mesh, stack)
  how = protocol.for_new_pictures(trained.config.eval, network=network or "mean", **seen)
  if how.summed == "logits":
    raise ConfigError(
      "labels carry a confidence, which is a probability: leave out --summed=logits"
    )
  return trained, gates.applied(gate, trained, how)


def _keep(threshold: Sequence[str | float], keep_share: float | None, trained: Trained) -> Rule:
  return kept_labels.rule(threshold, keep_share, trained.dataset["classes"])


def main(argv: Sequence[str] | None = None) -> None:
  """The command line; exits with 1 when pictures could not be read."""
  parser = arguments.Parser("semiseg_jax.label", __doc__.partition("\n")[0])
  add_network_flags(parser)
  parser.add_argument("--out", required=True, help="folder of the labels, which must not exist")
  parser.add_argument("--labeled", help="list of the labeled pictures; default data.labeled")
  parser.add_argument("--unlabeled", help="'rest', 'all', a list, a file; default data.unlabeled")
  parser.add_argument("--data_root", help="a prepared dataset; default that of the run")
  parser.add_argument(
    "--threshold",
    nargs="+",
    default=(),
    metavar="T",
    help="labels of a lower confidence become 255: 0.9 for all classes, car=0.7 for one",
  )
  parser.add_argument(
    "--keep_share", type=float, metavar="P", help="of each class its surest pixels stay (CBST): 0.5"
  )
  parser.add_argument(
    "--topk", type=int, default=0, metavar="K", help="soft labels of so many classes, too"
  )
  parser.add_argument("--overwrite", action="store_true", help="replace the labels at --out")
  plain = parser.add_argument_group("plain pictures in place of the run's unlabeled list")
  plain.add_argument("--images", metavar="DIR", help="folder of pictures")
  plain.add_argument(
    "--list",
    dest="listed",
    metavar="FILE",
    help="text file of pictures, one path a line, relative to --images or to the file",
  )
  plain.add_argument(
    "--form", choices=folder_labels.FORMS, help="a folder of masks, or a prepared data set (masks)"
  )
  plain.add_argument(
    "--ids", choices=source_ids.IDS, help="of masks: 0, 1, ... (train), or those of the source"
  )
  add_reading_flags(plain)
  flags = vars(parser.parse_args(argv))
  console.prepare()
  about = f"labels of {flags['workdir']}"
  with signals.answered(), ending("label"), memory.named(lambda: about):
    given = _split_flags(flags)
    gate, out = take_gating(flags), flags["out"]
    if given is not None:
      failures = label_folder(gate=gate, **flags, **given)
    else:
      info = label(gate=gate, **flags)
  if given is None:
    print(
      f"labels of {counted(len(info.ids), 'picture')} lie in {out}: --config.data.targets={out}"
    )
  elif given["form"] == "dataset":
    of = counted(failures.done, "picture")
    print(f"a data set of {of} lies in {out}: --config.data.root={out}")
    failures.end("label")
  else:
    told(failures, "label", "masks and confidence", out)


def _split_flags(flags: dict[str, Any]) -> dict[str, Any] | None:
  """Takes the flags of plain pictures out of `flags`; None where there are none.

  Raises:
    ConfigError: those of plain pictures and those of a data set together.
  """
  usual = {"form": "masks", "ids": "train"}
  given = {name: flags.pop(name) for name in ("images", "listed", *usual)}
  reading = {name: flags.pop(name) for name in ("value_range", "exif", "max_pixels")}
  is_plain = given["images"] is not None or given["listed"] is not None
  theirs = ("labeled", "unlabeled", "data_root") if is_plain else ()
  wrong = [f"--{name}" for name in theirs if flags.get(name) is not None]
  if wrong:
    raise ConfigError(
      f"{', '.join(wrong)}: of a data set, and --images, --list name plain pictures; give one kind"
    )
  named = given | reading
  alone = [f"--{name}" for name, value in named.items() if value is not None]
  if not is_plain and alone:
    raise ConfigError(f"{', '.join(alone)}: for plain pictures; name their folder with --images")
  if not is_plain:
    return None
  for name in ("labeled", "unlabeled", "data_root"):
    del flags[name]
  return {
    "reading": reading,
    **{name: usual.get(name) if value is None else value for name, value in given.items()},
  }


if __name__ == "__main__":
  main()
