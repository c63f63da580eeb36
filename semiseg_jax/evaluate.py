"""Scores the networks of a training run on a labeled list.

    python -m semiseg_jax.evaluate --workdir=runs/cps_toy
    python -m semiseg_jax.evaluate --workdir=runs/city --split=val --mode=slide --window=800 \
      --network=mean --step=best

Prints a table and writes WORKDIR/evaluations/*.json (how the result was obtained) with a picture
of the same name beside it. What is not given is taken from the run's config.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from absl import logging

from semiseg_jax.data import opening, splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import DataError, ending
from semiseg_jax.evaluation import inference, protocol
from semiseg_jax.evaluation.run import evaluate_ids
from semiseg_jax.evaluation.windows import Size
from semiseg_jax.training import validation


def evaluate(
  workdir: str,
  *,
  split: str | None = None,
  step: int | str = "last",
  data_root: str | None = None,
  network: str | None = None,
  stack: str | None = None,
  mode: str | None = None,
  window: Size | None = None,
  stride: Size | None = None,
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
    window: (height, width).
    stride: (height, width).

  Raises:
    CheckpointError: nothing to restore.
    DataError: dataset or list are unfit, or the dataset has other classes than the run's.
    ConfigError: an impossible protocol, no such network or stack.
    NonFiniteError: the scores hold a NaN or an infinity.
  """
  trained = inference.load_trained(workdir, step, stack=stack)
  config = trained.config
  how = protocol.from_config(config.eval, mode=mode, window=window, stride=stride, network=network)
  dataset = opening.open_dataset(config.data, data_root)
  check_dataset(dataset, trained.dataset)
  spec = split or config.data.val
  if not spec:
    raise DataError("this run has no validation list; name one with --split")
  ids = splits.resolve(dataset, spec)
  segmenter = how.segmenter(
    inference.make_forward(trained, how.network),
    len(dataset.info.classes),
    devices=trained.mesh.size,
  )
  result = evaluate_ids(
    segmenter, dataset, ids.ids, pictures=config.eval.pictures, title="evaluate"
  )
  meta = {"config": config.to_dict(), "dataset": trained.dataset}
  fields, table = validation.record(result, how, ids, dataset.info, meta, trained.step, workdir)
  print(table)
  return fields


def check_dataset(dataset: Dataset, trained_on: dict[str, Any]) -> None:
  """Raises DataError where a dataset has other classes or channels than that of a run."""
  info = dataset.info
  if list(info.classes) != list(trained_on["classes"]) or info.channels != trained_on["channels"]:
    raise DataError(
      f"dataset {info.name!r} ({dataset.root}) has {info.channels} channels and the classes "
      f"{list(info.classes)}; the run was trained with {trained_on['channels']} channels and "
      f"{list(trained_on['classes'])}: evaluate on a dataset prepared with the same classes file"
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
  parser.add_argument("--workdir", required=True, help="folder of a training run")
  parser.add_argument("--step", default="last", help="a checkpoint's step, 'last' or 'best'")
  parser.add_argument("--network", help="0, 1, ... or 'mean' of all (softmax)")
  parser.add_argument("--stack", help="'teacher' where the method has one; default eval.stack")
  parser.add_argument("--mode", choices=protocol.MODES, help="whole pictures or sliding windows")
  parser.add_argument("--window", type=parse_size, help="512 or 512x1024 (height x width)")
  parser.add_argument("--stride", type=parse_size, help="default: 2/3 of the window, rounded up")


def main(argv: Sequence[str] | None = None) -> None:
  """The command line."""
  parser = argparse.ArgumentParser(
    prog="python -m semiseg_jax.evaluate", description=__doc__.partition("\n")[0]
  )
  add_network_flags(parser)
  parser.add_argument("--split", help="a list of the dataset or a file of ids; default data.val")
  parser.add_argument("--data_root", help="a prepared dataset; default that of the run")
  flags = vars(parser.parse_args(argv))
  logging.set_verbosity(logging.ERROR)  # Orbax warns of nothing that concerns a reader
  with ending("evaluate"):
    evaluate(**flags)


if __name__ == "__main__":
  main()
