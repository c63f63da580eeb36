"""Damages a small checkpoint and a small dataset, and counts what readers make of it.

  python -m tests.flip_bits --tries=1000 [--seed=0]

Damages: one flipped bit, a block of zeros, a file cut off, a file exchanged with that of another
step, shard or list.  Readers: of the model (evaluate, predict, export and whoever else reads a
run), a run that goes on, a run that reads every record of its lists.  Each must get what was
written, that of a whole step before it, or an error.  Ends with status 1 where one got anything
else.
"""

import argparse
import collections
import dataclasses
import json
import logging as std_logging
import pathlib
import random
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable

import jax
import numpy as np

from semiseg_jax.data import splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import CheckpointError, DataError
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import damaged_run

META = {
  "config": {"data": {"mean": [0.485, 0.456], "crop": [32, 32]}, "optimizer": {"rate": 0.01}},
  "dataset": {"name": "süß", "classes": ["road", "sky", "car"], "channels": 3},
  "nets": {"networks": [{"stack": "networks", "copies": 2, "shift": [], "scale": [2.0, 1e-3]}]},
  "stacks": {"networks": 2},
}
SAME, BEFORE, ERROR, OTHER = "as written", "the step before", "an error", "OTHER"
_PLAIN = json.loads(json.dumps(META))


def write_dataset(root: pathlib.Path) -> pathlib.Path:
  """Six pictures, a shard each, with two lists."""
  colors = [(0, 0, 0), (9, 9, 9)]
  options = {"name": "d", "classes": ["a", "b"], "colors": colors, "codec": "raw"}
  with DatasetWriter(root, **options, shard_bytes=1) as writer:
    for i in range(6):
      label = np.full((5, 6), i % 2, np.uint8)
      writer.add(f"p{i}", image=np.full((5, 6, 3), i, np.uint8), label=label)
    writer.lists(train=[f"p{i}" for i in range(4)], val=["p4", "p5"])
  return root


def read_model(workdir: pathlib.Path) -> str:
  """What a reader of the model gets of the step 3."""
  try:
    meta, best, found = damaged_run.read_model(workdir)
  except CheckpointError:
    return ERROR
  told = best == 3 and {name: meta.get(name) for name in META} == _PLAIN
  expected = damaged_run.state(3)
  return SAME if told and _equal(found, (expected.params, expected.stats)) else OTHER


def go_on(workdir: pathlib.Path) -> str:
  """What a run that goes on starts from."""
  try:
    saved = Checkpoints(workdir)
    found = saved.restore(damaged_run.state(0))
    saved.close()
  except CheckpointError:
    return ERROR
  step = int(found.step)
  if step not in (2, 3) or not _equal(found, damaged_run.state(step)):
    return OTHER
  return SAME if step == 3 else BEFORE


def read_records(root: pathlib.Path) -> str:
  """What a run gets that reads every record of its lists."""
  try:
    dataset = Dataset.open(root)
    names = {name: splits.resolve(dataset, name).ids for name in ("train", "val")}
    read = [dataset.read(dataset.index(id_)) for ids in names.values() for id_ in ids]
  except DataError:
    return ERROR
  told = dataset.info.classes == ("a", "b") and [e.id for e in read] == [f"p{i}" for i in range(6)]
  right = all((e.image == i).all() and (e.label == i % 2).all() for i, e in enumerate(read))
  return SAME if told and right else OTHER


def _equal(found: object, expected: object) -> bool:
  pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
  return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


@dataclasses.dataclass(frozen=True)
class Target:
  """What is damaged: the folder as written, which of its files, and who reads it afterwards."""

  source: pathlib.Path
  files: tuple[pathlib.Path, ...]
  readers: tuple[Callable[[pathlib.Path], str], ...]

  @classmethod
  def of(cls, source: pathlib.Path, under: str, *readers: Callable) -> "Target":
    """The files of `source` below `under`."""
    files = (p.relative_to(source) for p in sorted((source / under).rglob("*")) if p.is_file())
    return cls(source, tuple(files), readers)


def damage(folder: pathlib.Path, file: pathlib.Path, draw: random.Random, kind: str) -> None:
  """Damages a file of a copied folder in one of the ways KINDS."""
  path = folder / file
  content = bytearray(path.read_bytes())
  place = draw.choice([i for i, byte in enumerate(content) if byte] or [0])  # no padding
  if kind == "bit" and content:
    content[place] ^= 1 << draw.randrange(8)
  elif kind == "zeros":
    end = min(place + 64, len(content))
    content[place:end] = bytes(end - place)
  elif kind == "cut":
    del content[place:]
  elif kind == "exchanged":
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p != path]
    other = draw.choice([p for p in files if _part(p, folder) == _part(path, folder)] or [path])
    content, kept = other.read_bytes(), bytes(content)
    other.write_bytes(kept)
  path.write_bytes(content)


KINDS = ("bit", "zeros", "cut", "exchanged")


def _part(path: pathlib.Path, folder: pathlib.Path) -> tuple[str, ...]:
  """What a file is in its folder, whatever its step, number, hash or list."""
  *folders, name = path.relative_to(folder).parts
  named = "*" if "d" in folders or "lists" in folders else name
  return tuple("".join(c for c in part if not c.isdigit()) for part in (*folders, named))


def sort_of(file: pathlib.Path) -> str:
  """The row of the table that a file belongs to."""
  if file.name == "metadata":
    return "checkpoint: description"
  if "metrics" in file.parts:
    return "checkpoint: score"
  if "checkpoints" in file.parts:
    return "checkpoint: numbers" if "d" in file.parts else "checkpoint: Orbax's own files"
  return "dataset: " + {".json": "metadata", ".txt": "lists"}.get(file.suffix, "shards")


def attack(
  target: Target, tries: int, draw: random.Random, scratch: pathlib.Path
) -> collections.Counter:
  """Returns (sort of file, kind of damage, reader, outcome) -> how often."""
  counts = collections.Counter()
  for _ in range(tries):
    file, kind = draw.choice(target.files), draw.choice((*KINDS, "bit"))
    before = draw.getstate()
    for reader in target.readers:
      draw.setstate(before)  # the same damage for each
      copy = shutil.copytree(target.source, scratch / "copy")
      damage(copy, file, draw, kind)
      outcome = reader(copy)
      counts[sort_of(file), kind, reader.__name__, outcome] += 1
      if outcome == OTHER:
        print(f"{file}, {kind}: {reader.__name__} got something else", file=sys.stderr)
      shutil.rmtree(copy)
  return counts


def table(counts: collections.Counter) -> str:
  """Rows for the README."""
  rows = collections.defaultdict(collections.Counter)
  for (sort, kind, _, outcome), times in counts.items():
    rows[sort, kind][outcome] += times
  lines = [
    f"| damaged | how | {SAME} | {BEFORE} | {ERROR} | {OTHER} |",
    "|---|---|---|---|---|---|",
  ]
  for (sort, kind), found in sorted(rows.items()):
    numbers = " | ".join(str(found[outcome]) for outcome in (SAME, BEFORE, ERROR, OTHER))
    lines.append(f"| {sort} | {kind} | {numbers} |")
  return "\n".join(lines)


def main() -> None:
  """Command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--tries", type=int, default=1000)
  parser.add_argument("--seed", type=int, default=0)
  options = parser.parse_args()
  std_logging.disable(std_logging.CRITICAL)
  warnings.simplefilter("ignore")
  draw = random.Random(options.seed)
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    run = damaged_run.write(folder / "run", META)
    dataset = write_dataset(folder / "dataset")
    counts = attack(
      Target.of(run, "checkpoints/3", read_model, go_on), options.tries // 2, draw, folder
    )
    counts += attack(Target.of(dataset, "", read_records), options.tries // 2, draw, folder)
  print(table(counts))
  lost = sum(times for (*_, outcome), times in counts.items() if outcome == OTHER)
  print(f"{sum(counts.values())} readings, {lost} of them got anything else than was written.")
  sys.exit(1 if lost else 0)


if __name__ == "__main__":
  main()
