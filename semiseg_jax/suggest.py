"""Which pictures to label next, and which labels to look at again.

    python -m semiseg_jax.suggest --workdir=runs/cps_toy --images=photos --number=50 --out=next

Ranks the pictures under --images, or the unlabeled list of the run, and writes OUT/suggested.txt
(the pictures to label, in this order), OUT/suggested.csv (all scores of all pictures),
OUT/suspicious.csv (regions of labeled pictures whose label the networks contradict with
confidence), OUT/sheet.png (the first of both) and OUT/suggested.json (how it was obtained).
`suggesting/measures.py`, `ranking.py` and `suspects.py` define every score.
"""

import argparse
import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from semiseg_jax import arguments, console, files, leftovers, memory, signals
from semiseg_jax.data import opening, shard_digests, splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError, DataError, ending
from semiseg_jax.evaluate import add_network_flags, check_dataset, take_gating
from semiseg_jax.evaluation import inference, pictures, protocol, result_files
from semiseg_jax.evaluation.inference import Trained
from semiseg_jax.evaluation.labeled_files import LeftOut
from semiseg_jax.suggesting import drawing, networks, ranking, scoring, tables
from semiseg_jax.suggesting.ranking import Scores, Suggestion
from semiseg_jax.suggesting.sources import DatasetSource, FolderSource, Source
from semiseg_jax.suggesting.suspects import Region
from semiseg_jax.wording import counted
from semiseg_jax.workdir import checkpoints, store

NONE = "none"  # of --labeled


@dataclasses.dataclass(frozen=True)
class Suggested:
  """What was found, and written.

  Attributes:
    scores: of all pictures that could be read.
    suggestions: which of them to label, in this order.
    suspicious: id -> regions of a labeled picture, the highest score first.
    failures: a line for each picture that could not be read.
    agreement: the share of labeled pixels that the networks label alike; None: no labels were seen.
  """

  scores: Scores
  suggestions: list[Suggestion]
  suspicious: dict[str, list[Region]]
  failures: LeftOut
  agreement: float | None


def suggest(
  workdir: str,
  out: str,
  *,
  images: str | None = None,
  number: int = 50,
  by: str = "combined",
  labeled: str | None = None,
  unlabeled: str | None = None,
  data_root: str | None = None,
  step: int | str = "last",
  network: str | None = None,
  stack: str | None = None,
  batch: int = 1,
  **seen: Any,
) -> Suggested:
  """Ranks pictures and labels, and writes both lists and their sheet; see the module.

  Args:
    workdir: of the training run.
    out: the folder of the results, also gs://... or s3://...
    images: the folder of the pictures to choose from; None: the unlabeled list of the run.
    number: of pictures to label.
    by: one of `ranking.RULES`.
    labeled: list of the labeled pictures, the config's `data.labeled` by default; 'none': there are
      none at hand, so no labels are looked at and all pictures are as far from labeled ones.
    unlabeled: those to choose from without `images`: 'rest', a list, a file; the config's by
      default.  Labeled ones among them are left out.
    data_root: a prepared dataset, or tfds:FOLDER; that of the run by default.
    step, stack: see `evaluate`.
    network: an index, several such as '0,2', or 'mean', the default: whose entropy, margin and
      labels count.  All networks of the stack disagree.
    batch: windows per call of the network.
    **seen: as for `evaluate`; probabilities are what is added.

  Raises:
    CheckpointError: nothing to restore.
    ConfigError: an unknown rule, one that the run cannot follow, an impossible number or protocol,
      no such network or stack.
    DataError: no pictures, `out` among them, a dataset or list that is unfit.
    NonFiniteError: the scores hold a NaN or an infinity.
    OutOfMemoryError: a picture, by its name, is too large for the memory.
    OSError: `out` cannot be written to.
  """
  if by not in ranking.RULES:
    raise ConfigError(f"--by={by}: one of {', '.join(ranking.RULES)}.")
  if number < 1:
    raise ConfigError(f"--number={number}: at least one picture.")
  if images is not None:
    _check_places(images, out)
  mesh = Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), ("replica", "data"))
  with store.opened(workdir, writes=False) as folder:
    trained = inference.load_trained(folder, step, mesh, stack)
  how = protocol.for_new_pictures(
    trained.config.eval, network=network or "mean", batch=batch, **seen
  )
  if how.summed == "logits":
    raise ConfigError("doubt is of probabilities: leave out --summed=logits.")
  run = networks.of_run(trained, how)
  _check_rule(trained, by)
  given, source = _sources(trained, images, labeled, unlabeled, data_root)
  _check_writable(out)
  scores = scoring.score(source, given, run)
  suggestions = ranking.suggest(scores, number, by)
  judge, suspicious = scoring.suspects(given, run) if given else (None, {})
  agreement = judge.agreement if judge else None
  failures = LeftOut(source.failures.values())
  failures.pictures = len(scores.ids) + len(failures)
  found = Suggested(scores, suggestions, suspicious, failures, agreement)
  page = drawing.page(run, source, given, scores, suggestions, judge, suspicious, by)
  split = {"pictures": source.about, "labeled": given and given.about}
  origin = _origin(trained, how.as_dict(), split)
  with store.opened(out, reads=False) as target:
    _write(pathlib.Path(target), found, page, by, run.classes, origin)
  return found


def _write(
  root: pathlib.Path,
  found: Suggested,
  page: np.ndarray,
  by: str,
  classes: Sequence[str],
  origin: dict[str, Any],
) -> None:
  """Writes all files; the list of names comes last."""
  numbers = {
    "by": by,
    "suggested": len(found.suggestions),
    "pictures": len(found.scores.ids),
    "suspicious_pictures": len(found.suspicious),
    "agreement": found.agreement,
  }
  root.mkdir(parents=True, exist_ok=True)  # of a store
  scores, suggestions = found.scores, found.suggestions
  files.write_text(root / "suggested.csv", tables.suggested(scores, suggestions, by))
  files.write_text(root / "suspicious.csv", tables.suspicious(found.suspicious, classes))
  pictures.write_png(root / "sheet.png", page)
  files.write_text(root / "suggested.json", result_files.text({**numbers, **origin}))
  files.write_text(root / "suggested.txt", tables.names(scores, suggestions))


def _origin(trained: Trained, protocol: dict[str, Any], split: dict[str, Any]) -> dict[str, Any]:
  """How results were obtained, as result files say it."""
  return {
    "step": trained.step,
    "protocol": protocol,
    "split": split,
    "trained_on": trained.dataset,
    "config": trained.config.to_dict(),
    "versions": checkpoints.versions(),
  }


def _check_places(images: str, out: str) -> None:
  store.refuse(images, "--images")
  if pathlib.Path(os.path.realpath(out)).is_relative_to(os.path.realpath(images)):
    raise DataError(f"{out} lies in {images}: results would be taken for pictures; choose another")


def _check_writable(out: str) -> None:
  """OSError where nothing can be written, before the work instead of after it."""
  if not store.is_url(out):
    pathlib.Path(out).mkdir(parents=True, exist_ok=True)
    leftovers.clear(out)
    with tempfile.TemporaryFile(dir=out) as probe:
      probe.write(b"probe")


def _check_rule(trained: Trained, by: str) -> None:
  if trained.n > 1:
    return
  more = "--stack=networks+teacher adds one where the method has a teacher"
  if by == "disagreement":
    raise ConfigError(
      f"--by=disagreement: one network does not disagree with itself; take --by=entropy ({more})."
    )
  if by == "combined":
    print(
      "NOTE: one network does not disagree with itself: pictures are ranked by its entropy and by "
      f"diversity ({more})"
    )


def _sources(
  trained: Trained,
  images: str | None,
  labeled: str | None,
  unlabeled: str | None,
  data_root: str | None,
) -> tuple[Source | None, Source]:
  """The labeled pictures, None where there are none at hand, and those to choose from."""
  data, about = trained.config.data, trained.dataset
  if images is not None:
    if unlabeled:
      raise ConfigError("--unlabeled is of the run's dataset, and --images of a folder: give one.")
    source = FolderSource(images, about["channels"], about.get("reading") or {})
    if labeled == NONE:
      return None, source
    dataset = _opened(trained, data_root)
    shard_digests.compare([dataset], most=shard_digests.MOST)
    known = splits.resolve(dataset, labeled or data.labeled)
    _check_labels(dataset, known.ids)
    return DatasetSource(dataset, known), source
  if labeled == NONE:
    raise ConfigError("--labeled=none: name the pictures to choose from with --images=DIR.")
  pool = opening.open_pool(data, _opened(trained, data_root))
  shard_digests.compare(shard_digests.folders(pool), most=shard_digests.MOST)
  split = splits.make_split(pool, labeled or data.labeled, unlabeled or data.unlabeled, data.train)
  known = set(split.labeled.ids)
  rest = tuple(id_ for id_ in split.unlabeled.ids if id_ not in known)
  if not rest:
    raise DataError(
      f"list {split.unlabeled.name!r} holds labeled pictures only: name others with --unlabeled, "
      "or a folder with --images"
    )
  rest = dataclasses.replace(split.unlabeled, ids=rest)
  return DatasetSource(pool, split.labeled), DatasetSource(pool, rest)


def _opened(trained: Trained, data_root: str | None) -> Dataset:
  dataset = opening.open_again(trained.config.data, data_root)
  check_dataset(dataset, trained.dataset)
  return dataset


def _check_labels(dataset: Dataset, ids: Sequence[str]) -> None:
  without = [id_ for id_ in ids if not dataset.info.labeled[dataset.index(id_)]]
  if without:
    raise DataError(
      f"{len(without)} of {counted(len(ids), 'picture')} of --labeled without a label, the first "
      "is "
      f"{without[0]!r}: take what has none off the list"
    )


def main(argv: Sequence[str] | None = None) -> None:
  """The command line; exits with 1 when pictures could not be read."""
  parser = arguments.Parser("semiseg_jax.suggest", __doc__.partition("\n")[0])
  add_network_flags(parser)
  _add_flags(parser)
  flags = vars(parser.parse_args(argv))
  console.prepare()
  about = f"pictures of {flags['images'] or flags['workdir']}"
  with signals.answered(), ending("suggest"), memory.named(lambda: about):
    if take_gating(flags):
      raise ConfigError("--gate: what networks doubt is theirs alone; leave the gate out.")
    found = suggest(**flags)
    _tell(found, **{name: flags[name] for name in ("out", "number", "by")})
  found.failures.end("suggest", "ranked")


def _add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    "--images", metavar="DIR", help="pictures to choose from; default: the run's unlabeled list"
  )
  parser.add_argument("--out", required=True, metavar="DIR", help="folder for the results")
  parser.add_argument("--number", type=int, default=50, help="of pictures to label (50)")
  parser.add_argument("--by", choices=ranking.RULES, default=ranking.RULES[0], help="the rule")
  parser.add_argument(
    "--labeled", help=f"list of the labeled pictures, or {NONE!r}; default data.labeled"
  )
  parser.add_argument("--unlabeled", help="'rest', a list, a file; default data.unlabeled")
  parser.add_argument("--data_root", help="a prepared dataset; default that of the run")
  parser.add_argument(
    "--batch", type=int, default=1, metavar="N", help="windows per call of the network (1)"
  )


def _tell(found: Suggested, out: str, number: int, by: str) -> None:
  chosen, pictures = len(found.suggestions), len(found.scores.ids)
  print(f"{chosen} of {counted(pictures, 'picture')} to label next, by {by}: {out}/suggested.txt")
  if chosen < number:
    others = "the others are copies of these or of labeled ones" if chosen < pictures else "no more"
    print(f"NOTE: {number} were asked for: {others}")
  if found.agreement is not None:
    regions = sum(map(len, found.suspicious.values()))
    print(f"{counted(regions, 'suspicious region')} in "
          f"{counted(len(found.suspicious), 'labeled picture')}: "
          f"{out}/suspicious.csv")  # fmt: skip
    print(
      f"NOTE: the networks agree with {found.agreement:.0%} of the labeled pixels. They learned "
      "from them: mistakes known by heart are not listed, and what is not learned yet is"
    )
  print(f"the first of both: {out}/sheet.png")


if __name__ == "__main__":
  main()
