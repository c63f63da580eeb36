"""Scores the networks of a training run on a labeled list.

    python -m semiseg_jax.evaluate --workdir=runs/cps_toy
    python -m semiseg_jax.evaluate --workdir=runs/city --split=val --mode=slide --window=800 \
      --network=mean --step=best
    python -m semiseg_jax.evaluate --workdir=runs/s4gan --gate=runs/mlmt
    python -m semiseg_jax.evaluate --workdir=runs/cps_toy --calibration --pseudo_labels

Prints a table and writes WORKDIR/evaluations/*.json (how the result was obtained) with a picture
of the same name beside it. What is not given is taken from the run's config.

A run of classifiers of whole pictures (MLMT) is scored by average precision.  It is the --gate of
others: classes that it does not see in a picture are taken from their segmentation.
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from semiseg_jax import arguments, console, memory, signals
from semiseg_jax.data import opening, splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.joined import JoinedDataset
from semiseg_jax.data.splits import IdList
from semiseg_jax.errors import ConfigError, DataError, ending
from semiseg_jax.evaluation import calibration as calibrated
from semiseg_jax.evaluation import gate as gates
from semiseg_jax.evaluation import image_labels, inference, protocol
from semiseg_jax.evaluation import pseudo_labels as pseudo
from semiseg_jax.evaluation.gate import Gating
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.protocol import Protocol
from semiseg_jax.evaluation.pseudo_labels import Hidden
from semiseg_jax.evaluation.run import Evaluation, evaluate_ids
from semiseg_jax.evaluation.windows import Forward, Size
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
  mode: str | None = None,
  whole: str | None = None,
  window: Size | None = None,
  stride: Size | None = None,
  gate: Gating | str | None = None,
  calibration: bool = False,
  pseudo_labels: bool = False,
) -> dict[str, Any]:
  """Evaluates, prints the table, writes the result file and returns its fields.

  Args:
    workdir: of the training run.
    split: a list of the dataset, or a text file of ids; the config's `data.val` by default.
    step: a checkpoint's step, 'last' or 'best'.
    data_root: a prepared dataset, or tfds:FOLDER; that of the run by default.
    network: an index or 'mean'.
    stack: which networks, e.g. 'teacher'; the config's `eval.stack` by default.
    mode: 'whole' or 'slide'; window and stride belong to the latter.
    whole: of the former, 'padded' to sizes like those of training, or 'as_is'.
    window: (height, width).
    stride: (height, width).
    gate: a classifier's workdir, or all of its options: classes that it does not see in a picture
      are taken away.
    calibration: whether ECE and its reliability table are counted, see `evaluation.calibration`.
    pseudo_labels: whether the unlabeled pictures that have masks are labeled and scored, too.

  Raises:
    CheckpointError: nothing to restore.
    DataError: dataset or list are unfit, or the dataset has other classes than the run's.
    ConfigError: an impossible protocol, no such network or stack, or a gate that does not fit.
    NonFiniteError: the scores hold a NaN or an infinity.
  """
  with store.opened(workdir) as folder:
    return _evaluate(
      folder,
      split,
      step,
      data_root,
      network,
      stack,
      mode,
      whole,
      window,
      stride,
      gate,
      calibration,
      pseudo_labels,
    )


def _evaluate(
  workdir: str,
  split: str | None,
  step: int | str,
  data_root: str | None,
  network: str | None,
  stack: str | None,
  mode: str | None,
  whole: str | None,
  window: Size | None,
  stride: Size | None,
  gate: Gating | str | None,
  calibration: bool,
  pseudo_labels: bool,
) -> dict[str, Any]:
  trained = inference.load_trained(workdir, step, stack=stack)
  config = trained.config
  if trained.labels_pictures:
    asked = (calibration or None, pseudo_labels or None)
    _check_classifier(workdir, mode, whole, window, stride, gate, *asked)
    how = image_labels.seen(config, network)
  else:
    how = protocol.from_config(
      config.eval, mode=mode, whole=whole, window=window, stride=stride, network=network
    )
    how = gates.applied(gate, trained, how)
  dataset = opening.open_again(config.data, data_root)
  check_dataset(dataset, trained.dataset)
  spec = split or config.data.val
  if not spec:
    raise DataError("this run has no validation list; name one with --split")
  ids = splits.resolve(dataset, spec)
  meta = {"config": config.to_dict(), "dataset": trained.dataset}
  if trained.labels_pictures:
    probabilities = image_labels.of_trained(trained, how.network)
    result = image_labels.classify_ids(probabilities, dataset, ids.ids, "evaluate")
    record = validation.record_classified
  else:
    hidden = pseudo.hidden(config, dataset) if pseudo_labels else None
    segment = functools.partial(
      _segmented, trained, how, inference.make_forward(trained, how.network)
    )
    result = segment(dataset, ids, certain=calibration)
    record = functools.partial(validation.record, pseudo=_pseudo_labels(segment, hidden))
  fields, table = record(result, how, ids, dataset.info, meta, trained.step, workdir)
  print(store.named(table))
  return fields


def _segmented(
  trained: Trained,
  how: Protocol,
  forward: Forward,
  dataset: Dataset | JoinedDataset,
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
  shown = trained.config.eval.pictures
  return evaluate_ids(segmenter, dataset, ids.ids, pictures=shown, title=title, certain=certain)


def _pseudo_labels(segment: Callable[..., Evaluation], of: Hidden | None) -> dict[str, Any] | None:
  """How good the labels of unlabeled pictures are; None where nobody asks or nothing tells it."""
  if of is None:
    return None
  if of.note and jax.process_index() == 0:
    print(f"NOTE {of.note}")
  if not of.split.ids:
    return None
  result = segment(of.pool, of.split, certain=True, title="pseudo labels")
  return pseudo.describe(result, of, of.pool.info.classes)


def _check_classifier(workdir: str, *given: Any) -> None:
  """Raises ConfigError where something is given that classifiers of pictures do not have."""
  if any(x is not None for x in given):
    raise ConfigError(
      f"{workdir} is a classifier of whole pictures, which sees each at one size: leave out "
      "--mode, --whole, --window, --stride, --calibration, --pseudo_labels and --gate. To gate a "
      "segmentation with it, give it to --gate beside the --workdir of the run that segments."
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


def parse_size(text: str) -> Size:
  """'512' -> (512, 512), '512x1024' -> (512, 1024): height x width."""
  sides = text.split("x")
  if len(sides) > 2 or not all(side.isdigit() and int(side) > 0 for side in sides):
    raise argparse.ArgumentTypeError(f"{text!r}: write 512 or 512x1024 (height x width)")
  return int(sides[0]), int(sides[-1])


def add_network_flags(parser: argparse.ArgumentParser) -> None:
  """The flags that choose checkpoint, network and windows."""
  parser.add_argument(
    "--workdir", required=True, metavar="DIR", help="of a training run: a folder, gs://, s3://"
  )
  parser.add_argument("--step", default="last", help="a checkpoint's step, 'last' or 'best'")
  parser.add_argument("--network", help="0, 1, ... or 'mean' of all (softmax)")
  parser.add_argument("--stack", help="'teacher' where the method has one; default eval.stack")
  parser.add_argument("--mode", choices=protocol.MODES, help="whole pictures or sliding windows")
  parser.add_argument(
    "--whole",
    choices=protocol.WHOLE,
    help="how whole pictures are seen: padded to sizes like those of training, or as_is",
  )
  size = {"type": parse_size, "metavar": "SIZE"}
  parser.add_argument("--window", **size, help="of --mode=slide: 512 or 512x1024 (height x width)")
  parser.add_argument("--stride", **size, help="default: 2/3 of the window, rounded up")
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
  parser.add_argument("--split", help="a list of the dataset or a file of ids; default data.val")
  parser.add_argument("--data_root", help="a prepared dataset; default that of the run")
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
    evaluate(gate=take_gating(flags), **flags)


if __name__ == "__main__":
  main()
