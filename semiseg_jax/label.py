"""Stores what the networks of a trained run say of unlabeled pictures, to train others on it.

    python -m semiseg_jax.label --workdir=runs/cps --out=runs/cps_labels
    python -m semiseg_jax.main --config=configs/cps_toy.py:method=self_training \
      --config.data.targets=runs/cps_labels --workdir=runs/student

Labels and confidence of the unlabeled pictures of the run, by the mean of its networks.  --out
appears when it is complete.  What is not given is taken from the run's config.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from semiseg_jax import arguments, console, memory, signals
from semiseg_jax.data import opening, splits
from semiseg_jax.data.targets import Targets, TargetsInfo
from semiseg_jax.errors import ConfigError, ending
from semiseg_jax.evaluate import add_network_flags, check_dataset, take_gating
from semiseg_jax.evaluation import gate as gates
from semiseg_jax.evaluation import inference, labeling, protocol
from semiseg_jax.evaluation.gate import Gating
from semiseg_jax.evaluation.windows import Size
from semiseg_jax.workdir import store


def label(
  workdir: str,
  out: str,
  *,
  labeled: str | None = None,
  unlabeled: str | None = None,
  data_root: str | None = None,
  overwrite: bool = False,
  step: int | str = "last",
  network: str | None = None,
  stack: str | None = None,
  mode: str | None = None,
  whole: str | None = None,
  window: Size | None = None,
  stride: Size | None = None,
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
    overwrite: replace finished targets at `out`.
    step, stack, mode, whole, window, stride, gate: see `evaluate`.
    network: an index, several such as '0,2', or 'mean', the default.
    **seen: scales, flip and others, see `evaluate`; probabilities are what is added.

  Raises:
    CheckpointError: nothing to restore.
    DataError: dataset or list are unfit, or `out` cannot be written.
    ConfigError: an impossible protocol, no such network or stack, or a gate that does not fit.
    NonFiniteError: the scores hold a NaN or an infinity.
  """
  store.refuse(out, "--out")
  with store.opened(workdir, writes=False) as run:
    trained = inference.load_trained(run, step, stack=stack)
  how = protocol.to_label(
    trained.config.eval,
    mode=mode,
    whole=whole,
    window=window,
    stride=stride,
    network=network or "mean",
    **seen,
  )
  if how.summed == "logits":
    raise ConfigError(
      "labels carry a confidence, which is a probability: leave out --summed=logits"
    )
  how = gates.applied(gate, trained, how)
  data = trained.config.data
  dataset = opening.open_again(data, data_root)
  check_dataset(dataset, trained.dataset)
  pool = opening.open_pool(data, dataset)
  chosen = splits.make_split(pool, labeled or data.labeled, unlabeled or data.unlabeled, data.train)
  ids, folder = chosen.unlabeled.ids, pathlib.Path(out)
  labeling.write_labels(
    folder, trained, how, pool, ids, name=trained.config.name, rule=step, overwrite=overwrite
  )
  return Targets.open(folder).info


def main(argv: Sequence[str] | None = None) -> None:
  """The command line."""
  parser = arguments.Parser("semiseg_jax.label", __doc__.partition("\n")[0])
  add_network_flags(parser)
  parser.add_argument("--out", required=True, help="folder of the labels, which must not exist")
  parser.add_argument("--labeled", help="list of the labeled pictures; default data.labeled")
  parser.add_argument("--unlabeled", help="'rest', 'all', a list, a file; default data.unlabeled")
  parser.add_argument("--data_root", help="a prepared dataset; default that of the run")
  parser.add_argument("--overwrite", action="store_true", help="replace the labels at --out")
  flags = vars(parser.parse_args(argv))
  console.prepare()
  about = f"labels of {flags['workdir']}"
  with signals.answered(), ending("label"), memory.named(lambda: about):
    info = label(gate=take_gating(flags), **flags)
  out = flags["out"]
  print(f"labels of {len(info.ids)} pictures lie in {out}: --config.data.targets={out}")


if __name__ == "__main__":
  main()
