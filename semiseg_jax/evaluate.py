"""Scores the networks of a training run on a labeled list.

    python -m semiseg_jax.evaluate --workdir=runs/cps_toy
    python -m semiseg_jax.evaluate --workdir=runs/city --split=val --mode=slide --window=800 \
      --network=mean --step=best
    python -m semiseg_jax.evaluate --workdir=runs/s4gan --gate=runs/mlmt
    python -m semiseg_jax.evaluate --workdir=runs/cps_toy --calibration --pseudo_labels
    python -m semiseg_jax.evaluate --workdir=runs/city --protocol=unimatch_city
    python -m semiseg_jax.evaluate --workdir=runs/camvid --split val held_out
    python -m semiseg_jax.evaluate --workdir=runs/mine --images=photos --labels=masks

Prints a table and writes WORKDIR/evaluations/*.json (how the result was obtained) with a picture
of the same name beside it. What is not given is taken from the run's config.

`predict` writes exactly the labels that are counted here where its --batch is the run's eval.batch;
in batches of another size convolutions round differently, which changes a pixel in millions.
Of a run that is scored at the size of each picture (as_is) it needs --whole=as_is for that, unless
all pictures are of one size.

A run of classifiers of whole pictures (MLMT) is scored by average precision.  It is the --gate of
others: classes that it does not see in a picture are taken from their segmentation.
"""

import argparse
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from semiseg_jax import arguments, console, leftovers, memory, signals
from semiseg_jax.data import opening, shard_digests, splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.splits import IdList
from semiseg_jax.errors import ConfigError, DataError, ending
from semiseg_jax.evaluation import calibration as calibrated
from semiseg_jax.evaluation import gate as gates
from semiseg_jax.evaluation import image_labels, inference, protocol, source_ids
from semiseg_jax.evaluation import pseudo_labels as pseudo
from semiseg_jax.evaluation.gate import Gating
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.masked_folder import MaskedFolder
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.evaluation.protocol_flags import add_protocol_flags
from semiseg_jax.evaluation.pseudo_labels import Hidden
from semiseg_jax.evaluation.run import Evaluation, evaluate_ids
from semiseg_jax.evaluation.windows import Forward
from semiseg_jax.ops.class_gate import RULES
from semiseg_jax.training import validation
from semiseg_jax.workdir import store


def evaluate(
  workdir: str,
  *,
  split: str | None = None,
  step: int | str = "last",
  data_root: str | None = None,
  network: str | None = None,
  stack: str | None = None,
  gate: Gating | str | None = None,
  images: str | None = None,
  labels: str | None = None,
  ids: str | None = None,
  ignore: Sequence[str] | None = None,
  calibration: bool = False,
  pseudo_labels: bool = False,
  **seen: Any,
) -> dict[str, Any]:
  """Evaluates, prints the table, writes the result file and returns its fields.

  Args:
    workdir: of the training run.
    split: a list of the dataset, or a text file of ids; the config's `data.val` by default.
    step: a checkpoint's step, 'last' or 'best'.
    data_root: a prepared dataset, or tfds:FOLDER; that of the run by default.
    network: an index, several such as '0,2', or 'mean' of all.
    stack: which networks, e.g. 'teacher'; the config's `eval.stack` by default.
    gate: a classifier's workdir, or all of its options: classes that it does not see in a picture
      are taken away.
    images, labels: a folder of pictures and one of masks, in place of a dataset.
    ids, ignore: of these masks, see `MaskedFolder`.
    calibration: whether ECE and its reliability table are counted, see `evaluation.calibration`.
    pseudo_labels: whether the unlabeled pictures that have masks are labeled and scored, too.
    **seen: how pictures are seen: protocol, mode, whole, window, stride, border, multiple, summed,
      scales, flip; see `protocol.from_config`.

  Raises:
    CheckpointError: nothing to restore.
    DataError: dataset or list are unfit, or the dataset has other classes than the run's.
    ConfigError: an impossible protocol, no such network or stack, or a gate that does not fit.
    NonFiniteError: the scores hold a NaN or an infinity.
  """
  masked = {"images": images, "labels": labels, "ids": ids, "ignore": ignore}
  _check_source(split, data_root, masked)
  with store.opened(workdir) as folder:
    leftovers.clear(pathlib.Path(folder) / "evaluations")
    trained = inference.load_trained(folder, step, stack=stack)
    if trained.labels_pictures:
      _check_classifier(workdir, calibration or None, pseudo_labels or None)
    how = _protocol(workdir, trained, network, seen, gate, of_folder=bool(images))
    dataset, ids_ = _data(trained, split, data_root, masked)
    hidden = _hidden(trained, data_root) if pseudo_labels else None
    return _evaluate(folder, trained, how, dataset, ids_, calibration, hidden)


def _protocol(
  workdir: str,
  trained: Trained,
  network: str | None,
  seen: dict[str, Any],
  gate: Gating | str | None,
  of_folder: bool,
) -> Protocol | image_labels.Seen:
  if trained.labels_pictures:
    _check_classifier(workdir, *seen.values(), gate)
    return image_labels.seen(trained.config, network)
  read = protocol.for_scored_folder if of_folder else protocol.from_config
  how = read(trained.config.eval, network=network, **seen)
  return gates.applied(gate, trained, how)


def _data(
  trained: Trained, split: str | None, data_root: str | None, masked: dict[str, Any]
) -> tuple[Dataset | MaskedFolder, IdList]:
  """What is evaluated."""
  if masked["images"]:
    ignore = {} if masked["ignore"] is None else {"ignore": masked["ignore"]}
    folders = masked["images"], masked["labels"]
    folder = MaskedFolder(*folders, trained.dataset, ids=masked["ids"], **ignore)
    return folder, folder.ids
  dataset = opening.open_again(trained.config.data, data_root)
  check_dataset(dataset, trained.dataset)
  shard_digests.compare([dataset], most=shard_digests.MOST)
  spec = split or trained.config.data.val
  if not spec:
    raise DataError("this run has no validation list; name one with --split")
  return dataset, splits.resolve(dataset, spec)


def _evaluate(
  workdir: str,
  trained: Trained,
  how: Protocol | image_labels.Seen,
  dataset: Dataset | MaskedFolder,
  ids: IdList,
  certain: bool,
  hidden: Hidden | None,
) -> dict[str, Any]:
  meta = {"config": trained.config.to_dict(), "dataset": trained.dataset}
  if trained.labels_pictures:
    probabilities = image_labels.of_trained(trained, how.network)
    result = image_labels.classify_ids(probabilities, dataset, ids.ids, "evaluate")
    record = validation.record_classified
  else:
    forward = inference.make_forward(trained, how.network, **how.views())
    segment = functools.partial(_segmented, trained, how, forward)
    result = segment(dataset, ids, certain=certain)
    record = functools.partial(validation.record, pseudo=_pseudo_labels(segment, hidden))
  fields, table = record(result, how, ids, dataset.info, meta, trained.step, workdir)
  print(store.named(table))
  return fields


def _segmented(
  trained: Trained,
  how: Protocol,
  forward: Forward,
  dataset: Dataset | JoinedDataset | MaskedFolder,
  ids: IdList,
  *,
  certain: bool = False,
  title: str = "evaluate",
) -> Evaluation:
  make = functools.partial(calibrated.segmenter, how) if certain else how.segmenter
  segmenter = make(
    forward,
    len(dataset.info.classes),
    grid=inference.grid(trained.config, trained.members),
    devices=trained.mesh.size,
  )
  shown, read = trained.config.eval.pictures, how.scored(dataset)
  return evaluate_ids(segmenter, read, ids.ids, pictures=shown, title=title, certain=certain)


def _hidden(trained: Trained, data_root: str | None) -> Hidden:
  """The unlabeled pictures that have masks; what has none is said."""
  config = trained.config
  found = pseudo.hidden(config, opening.open_again(config.data, data_root))
  shard_digests.compare(shard_digests.folders(found.pool), most=shard_digests.MOST)
  if found.note and jax.process_index() == 0:
    print(f"NOTE {found.note}")
  return found


def _pseudo_labels(segment: Callable[..., Evaluation], of: Hidden | None) -> dict[str, Any] | None:
  """How good the labels of unlabeled pictures are; None where nobody asks or nothing tells it."""
  if of is None or not of.split.ids:
    return None
  result = segment(of.pool, of.split, certain=True, title="pseudo labels")
  return pseudo.describe(result, of, of.pool.info.classes)


def _check_source(split: str | None, data_root: str | None, masked: dict[str, Any]) -> None:
  """Raises ConfigError where a folder of pictures has no masks, or is given beside a dataset."""
  images, labels = masked["images"], masked["labels"]
  if images and labels:
    store.refuse(images, "--images")
    store.refuse(labels, "--labels")
    if split or data_root:
      raise ConfigError(
        "--images and --labels are evaluated as they are: leave out --split and --data_root, or "
        "these two."
      )
  elif any(value is not None for value in masked.values()):
    raise ConfigError(
      "--images=DIR and --labels=DIR go together; --ids and --ignore say what the masks there hold."
    )


def _check_classifier(workdir: str, *given: Any) -> None:
  """Raises ConfigError where something is given that classifiers of pictures do not have."""
  if any(x is not None for x in given):
    raise ConfigError(
      f"{workdir} is a classifier of whole pictures, which sees each at one size: leave out "
      "--gate, --calibration, --pseudo_labels and all that says how pictures are seen (--mode, "
      "--window, ...). To gate a segmentation with it, give it to --gate beside the --workdir of "
      "the run that segments."
    )


def check_dataset(dataset: Dataset, trained_on: dict[str, Any]) -> None:
  """Raises DataError where a dataset has other classes or channels than that of a run."""
  info = dataset.info
  if list(info.classes) != list(trained_on["classes"]) or info.channels != trained_on["channels"]:
    raise DataError(
      f"dataset {info.name!r} ({dataset.root}) has {info.channels} channels and the classes "
      f"{list(info.classes)}; the run was trained with {trained_on['channels']} channels and "
      f"{list(trained_on['classes'])}: evaluate on a dataset prepared with the same classes file"
    )
  read, then = info.reading.get("value_range"), (trained_on.get("reading") or {}).get("value_range")
  if read != then:
    print(
      f"NOTE {dataset.root} was prepared with --value_range {read}, the training data with {then}: "
      "equal values look different to the network"
    )
  if info.fingerprint != trained_on["fingerprint"]:
    print(
      f"NOTE {dataset.root} is not the dataset of the training run ({info.name!r} "
      f"{info.fingerprint[:8]}, not {trained_on['name']!r} {trained_on['fingerprint'][:8]})"
    )


def add_network_flags(parser: argparse.ArgumentParser) -> None:
  """The flags that choose checkpoint, network and windows."""
  parser.add_argument(
    "--workdir", required=True, metavar="DIR", help="of a training run: a folder, gs://, s3://"
  )
  parser.add_argument("--step", default="last", help="a checkpoint's step, 'last' or 'best'")
  parser.add_argument(
    "--network", help="0, 1, ..., several such as 0,2, or 'mean' of all (softmax)"
  )
  parser.add_argument("--stack", help="'teacher' where the method has one; default eval.stack")
  add_protocol_flags(parser)
  usual, parser = Gating(""), parser.add_argument_group("a classifier of pictures as a gate")
  parser.add_argument(
    "--gate", metavar="DIR", help="workdir of a classifier: classes it does not see are removed"
  )
  parser.add_argument(
    "--gate_threshold", type=float, help=f"probability that is seen; default {usual.threshold}"
  )
  parser.add_argument(
    "--gate_rule",
    choices=RULES,
    help=f"what of an unseen class becomes 0; default {usual.rule}, published logit_zero",
  )
  parser.add_argument(
    "--gate_always", nargs="+", metavar="CLASS", help="classes that are always kept"
  )
  parser.add_argument("--gate_step", help="of the classifier: a step, 'last' or 'best'")


def take_gating(flags: dict[str, Any]) -> Gating | None:
  """Takes the flags of the gate out of `flags`.

  Raises:
    ConfigError: options without a gate, or impossible ones.
  """
  workdir, names = flags.pop("gate"), ("threshold", "rule", "always", "step")
  options = {name: flags.pop(f"gate_{name}") for name in names}
  options = {name: value for name, value in options.items() if value is not None}
  if workdir is None:
    if options:
      given = ", ".join(f"--gate_{name}" for name in options)
      raise ConfigError(f"{given}: there is no gate; name the workdir of a classifier with --gate.")
    return None
  if "always" in options:
    options["always"] = tuple(options["always"])
  return Gating(workdir, **options)


def main(argv: Sequence[str] | None = None) -> None:
  """The command line."""
  parser = arguments.Parser("semiseg_jax.evaluate", __doc__.partition("\n")[0])
  add_network_flags(parser)
  parser.add_argument(
    "--split",
    nargs="+",
    metavar="LIST",
    help="a list of the dataset or a file of ids, or several; default data.val",
  )
  parser.add_argument("--data_root", help="a prepared dataset; default that of the run")
  parser.add_argument(
    "--images",
    metavar="DIR",
    help="a plain folder of pictures in place of a dataset, with --labels",
  )
  parser.add_argument("--labels", metavar="DIR", help="the folder of their masks")
  parser.add_argument(
    "--ids", choices=source_ids.IDS, help="in these masks: 0, 1, ... or those of the training masks"
  )
  parser.add_argument(
    "--ignore", nargs="+", metavar="ID", help="ids of no class in these masks (255), or 'others'"
  )
  parser.add_argument(
    "--calibration", action="store_true", help="also the expected calibration error (ECE, 15 bins)"
  )
  parser.add_argument(
    "--pseudo_labels",
    action="store_true",
    help="also the quality of the labels of unlabeled pictures whose masks the dataset has",
  )
  flags = vars(parser.parse_args(argv))
  console.prepare()
  about = f"evaluation of {flags['workdir']}"
  with signals.answered(), ending("evaluate"), memory.named(lambda: about):
    gate, lists = take_gating(flags), flags.pop("split") or [None]
    for split in lists:
      evaluate(split=split, gate=gate, **flags)


if __name__ == "__main__":
  main()
