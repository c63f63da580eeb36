"""Damages what runs read, and counts what came of it: a table for the README.

  python -m tests.attack --seed=0 --cases=2000 [--only=checkpoint] [--at=17]

Each case copies what a kind of thing consists of, damages one file of it, and reads it as the
program does.  It holds where the reader gets what was written (or a whole checkpoint before it), or
ends with a message that names what is wrong.  It is lost where the reader gets anything else, or
ends with another exception.

Damages: `bit` flips one, `burst` overwrites up to 64 bytes, `cut` leaves a part, `gone` removes the
file, `exchanged` swaps it with another one of the same name or suffix, `foreign` puts random bytes,
nothing, or JSON of another form in its place.  A kind is a `Kind` in KINDS: what writes it and what
reads it.  What no checksum covers cannot be noticed by any reader and is no kind here: pixels of a
JPEG, a member of a bare .tar, a .safetensors without a digest in its name, a line of metrics.
"""

import argparse
import collections
import dataclasses
import hashlib
import io
import json
import logging as std_logging
import pathlib
import pickle
import random
import shutil
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Sequence
from unittest import mock

import jax
import numpy as np
from PIL import Image

from data_prep.sources import archives
from semiseg_jax import console, continuing
from semiseg_jax.data import pictures, splits
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.targets import Targets
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.data.writing.targets_writer import TargetsWriter
from semiseg_jax.errors import UserError
from semiseg_jax.evaluation import described
from semiseg_jax.models import pretrained
from semiseg_jax.models.torch.files import read_state_dict
from semiseg_jax.state import TrainState
from semiseg_jax.workdir import run_lock, writers
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import damaged_run
from tests.models.torch import torch_files

DAMAGES = ("bit", "burst", "cut", "gone", "exchanged", "foreign")
HELD, TOLD, LOST = "as written", "told", "lost"
META = {"config": {"data": {"mean": [0.5, 0.25]}}, "dataset": {"classes": ["a", "b"]}}


@dataclasses.dataclass(frozen=True)
class Kind:
  """What is damaged.

  Attributes:
    write: makes it in a folder that is not there.
    read: reads it as the program does; what it returns is compared by `pickle`.
    right: of what was read from the whole, whether something read from the damaged is right too.
  """

  write: Callable[[pathlib.Path], None]
  read: Callable[[pathlib.Path], object]
  right: Callable[[object, object], bool] = lambda whole, found: False


def _digest(*arrays: object) -> str:
  found = hashlib.sha256()
  for array in map(np.asarray, arrays):
    found.update(f"{array.dtype} {array.shape} ".encode() + array.tobytes())
  return found.hexdigest()


def _write_run(folder: pathlib.Path) -> None:
  damaged_run.write(folder, META)


def _of_state(state: TrainState) -> tuple[int, str]:
  return int(state.step), _digest(*jax.tree.leaves(state))


def _go_on(folder: pathlib.Path) -> list:
  """A run that goes on: its state, and the description of that step."""
  saved, told = Checkpoints(folder), []
  try:
    found = saved.restore(damaged_run.state(0), told.append)
    return [found and _of_state(found), [{k: meta.get(k) for k in META} for meta in told][-1:]]
  finally:
    saved.close()


def _is_the_one_before(whole: object, found: object) -> bool:
  return found == [_of_state(damaged_run.state(2)), [META]]


def _read_model(folder: pathlib.Path) -> list:
  meta, best, found = damaged_run.read_model(folder)
  return [{k: meta.get(k) for k in META}, best, _digest(*jax.tree.leaves(found))]


def _write_workdir(folder: pathlib.Path) -> None:
  """A run with all that lies beside its checkpoints."""
  _write_run(folder)
  (folder / "config.json").write_text(json.dumps(META["config"]))
  (folder / "metrics.jsonl").write_text('{"step": 2, "loss": 1}\n{"step": 3, "loss": 2}\n')
  (folder / "evaluations").mkdir()
  (folder / "evaluations" / "val_step_3.json").write_text('{"checkpoint_step": 3, "miou": 0.5}')
  (folder / "run.lock").write_text("")


def _start_again(folder: pathlib.Path) -> list:
  """A start in a folder with damaged files beside its checkpoints: these count alone."""
  folder = described.last_stage(folder)
  with mock.patch.object(run_lock, "STALE_S", 0.01), run_lock.held(folder):
    writers.cut_json_lines(folder / "metrics.jsonl", 3)
    continuing.result(str(folder), 3, {}, "")
    return _go_on(folder)


def _write_dataset(folder: pathlib.Path) -> None:
  rng = np.random.default_rng(0)
  options = {"name": "d", "classes": ["a", "b"], "colors": [(0, 0, 0), (9, 9, 9)]}
  with DatasetWriter(folder, **options, shard_bytes=1) as writer:
    for i in range(6):
      image = rng.integers(0, 256, (7, 6, 3), np.uint8)
      writer.add(f"p{i}", image=image, label=rng.integers(0, 2, (7, 6), np.uint8))
    writer.lists(train=[f"p{i}" for i in range(4)], val=["p4", "p5"])


def _read_dataset(folder: pathlib.Path) -> list:
  """A run that reads its lists and every record of them."""
  dataset = Dataset.open(folder)
  info = dataset.info
  lists = {name: splits.resolve(dataset, name).ids for name in ("train", "val")}
  read = [dataset.read(dataset.index(id_)) for ids in lists.values() for id_ in ids]
  about = [info.classes, info.colors, info.channels, info.class_pixels, info.list_pixels]
  return [about, lists, [(e.id, _digest(e.image, e.label)) for e in read]]


def _write_targets(folder: pathlib.Path) -> None:
  _write_dataset(folder / "data")
  dataset = Dataset.open(folder / "data")
  with TargetsWriter(folder / "targets", dataset=dataset, about={"masks": "m"}) as writer:
    for id_ in dataset.info.ids[:4]:
      label = dataset.read(dataset.index(id_)).label
      writer.add(id_, label=label, confidence=label * np.uint8(9))


def _read_targets(folder: pathlib.Path) -> list:
  """A run that learns from stored labels; the pictures themselves are a kind of their own."""
  dataset, targets = Dataset.open(folder / "data"), Targets.open(folder / "targets")
  ids = dataset.info.ids[:4]
  targets.check(dataset, ids, ("label", "confidence"))
  read = [targets.record(id_).window(0, 0, 7, 6) for id_ in ids]
  maps = [sorted(found.items()) for found in read]
  return [[(name, _digest(found.values)) for name, found in picture] for picture in maps]


def _write_backbone(folder: pathlib.Path) -> None:
  folder.mkdir()
  rng = np.random.default_rng(0)
  np.savez(folder / pretrained.PARAMS_FILE, **{"params/conv/kernel": rng.normal(size=(3, 4))})
  about = {"backbone": "tiny", "params_sha256": ""}
  about["params_sha256"] = pretrained.file_sha256(folder / pretrained.PARAMS_FILE)
  (folder / pretrained.METADATA_FILE).write_text(json.dumps(about))


def _read_backbone(folder: pathlib.Path) -> list:
  return [_digest(*jax.tree.leaves(pretrained.load_backbone(folder, "tiny")))]


def _weights(name: str) -> Kind:
  """A published file: its zip has a checksum of each member."""

  def write(folder: pathlib.Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    arrays = {"conv.weight": rng.normal(size=(4, 3)).astype(np.float32), "fc.bias": np.ones(4)}
    if name.endswith(".npz"):
      np.savez(folder / name, **arrays)
    else:
      tensors = {k: x.astype(np.float32) for k, x in arrays.items()}
      (folder / name).write_bytes(torch_files.zipped(tensors))

  def read(folder: pathlib.Path) -> dict:
    return {name: _digest(x) for name, x in read_state_dict(folder / name).items()}

  return Kind(write, lambda folder: dict(sorted(read(folder).items())))


def _archive(name: str) -> Kind:
  """An archive whose format has checksums."""
  members = {f"pictures/{i}.png": random.Random(i).randbytes(200) for i in range(3)}

  def write(folder: pathlib.Path) -> None:
    folder.mkdir()
    if name.endswith(".zip"):
      with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in members.items():
          archive.writestr(path, data)
      return
    with tarfile.open(folder / name, "w:gz") as archive:
      for path, data in members.items():
        about = tarfile.TarInfo(path)
        about.size = len(data)
        archive.addfile(about, io.BytesIO(data))

  def read(folder: pathlib.Path) -> list:
    every = archives.re.compile("")
    found = archives.list_members([folder / name], held=every)
    return sorted((member.name, _digest(member.read())) for member in found)

  return Kind(write, read)


def _write_pictures(folder: pathlib.Path) -> None:
  """PNG has checksums.  One picture alone: two that are exchanged are two sound ones."""
  folder.mkdir()
  rng = np.random.default_rng(0)
  Image.fromarray(rng.integers(0, 256, (9, 8, 3), np.uint8)).save(folder / "a.png")
  Image.fromarray(rng.integers(0, 2, (9, 8), np.uint8)).save(folder / "a_mask.png")


def _read_pictures(folder: pathlib.Path) -> list:
  picture = pictures.read_picture(folder / "a.png", channels=3).pixels
  return [_digest(picture), _digest(pictures.read_label(folder / "a_mask.png"))]


KINDS = {
  "checkpoint, a run that goes on": Kind(_write_run, _go_on, _is_the_one_before),
  "checkpoint, evaluate and export": Kind(_write_run, _read_model),
  "files beside the checkpoints": Kind(_write_workdir, _start_again, _is_the_one_before),
  "data set: shards, metadata, lists": Kind(_write_dataset, _read_dataset),
  "stored labels": Kind(_write_targets, _read_targets),
  "prepared weights": Kind(_write_backbone, _read_backbone),
  "published weights, .npz": _weights("w.npz"),
  "published weights, .pth": _weights("w.pth"),
  "archive, .zip": _archive("a.zip"),
  "archive, .tgz": _archive("a.tgz"),
  "pictures and masks, .png": Kind(_write_pictures, _read_pictures),
}


def _files(folder: pathlib.Path) -> list[pathlib.Path]:
  return [file for file in sorted(folder.rglob("*")) if file.is_file()]


def damage(rng: random.Random, folder: pathlib.Path, kind: str) -> str:
  """Damages one file below `folder`; returns which."""
  every = _files(folder)
  file = rng.choice(every)
  data = bytearray(file.read_bytes())
  place = rng.randrange(len(data)) if data else 0
  if kind == "gone":
    file.unlink()
  elif kind == "exchanged":
    others = [other for other in every if other != file and other.suffix == file.suffix]
    other = rng.choice([o for o in others if o.name == file.name] or others or [file])
    file.write_bytes(other.read_bytes())
    other.write_bytes(data)
  else:
    if kind == "bit" and data:
      data[place] ^= 1 << rng.randrange(8)
    elif kind == "burst":
      data[place : place + 64] = rng.randbytes(len(data[place : place + 64]))
    elif kind == "cut":
      del data[place:]
    elif kind == "foreign":
      data = rng.choice((b"", rng.randbytes(99), b"[]", b"null", b'{"step": "x"}', bytes(50)))
    file.write_bytes(data)
  return str(file.relative_to(folder))


def outcome(kind: Kind, whole: object, folder: pathlib.Path) -> tuple[str, str]:
  """Reads what was damaged; returns HELD, TOLD or LOST, and what was said."""
  try:
    found = kind.read(folder)
  except UserError as error:
    return TOLD, str(error)
  except OSError as error:  # a command makes a line of it where it names its file
    return (TOLD if error.filename else LOST), repr(error)
  except Exception as error:
    return LOST, repr(error)
  right = pickle.dumps(found) == pickle.dumps(whole) or kind.right(whole, found)
  return (HELD, "") if right else (LOST, f"read {str(found)[:200]}")


def attack(
  seed: int, numbers: Sequence[int], kinds: Sequence[str]
) -> tuple[collections.Counter, list[str]]:
  """Runs cases of a seed; returns (kind, damage, outcome) -> how often, and a line on each loss."""
  counts, losses = collections.Counter(), []
  with tempfile.TemporaryDirectory() as temporary:
    root, sound = pathlib.Path(temporary), {}
    for number, name in enumerate(kinds):
      KINDS[name].write(root / str(number))
      sound[name] = root / str(number), _whole(KINDS[name], root / str(number), root / "copy")
    for number in numbers:
      rng, name = random.Random(f"{seed} {number}"), kinds[number % len(kinds)]
      source, whole = sound[name]
      copy, how = shutil.copytree(source, root / "copy"), rng.choice(DAMAGES)
      file = damage(rng, copy, how)
      found, said = outcome(KINDS[name], whole, copy)
      counts[name, how, found] += 1
      if found == LOST:
        losses.append(f"case {number}: {name}, {how} of {file}: {said}")
      shutil.rmtree(copy)
  return counts, losses


def _whole(kind: Kind, source: pathlib.Path, copy: pathlib.Path) -> object:
  shutil.copytree(source, copy)
  found = kind.read(copy)
  shutil.rmtree(copy)
  return found


def table(counts: collections.Counter) -> str:
  """Markdown: a row for each kind."""
  lines = [f"| damaged | {' | '.join(DAMAGES)} | {HELD} | {TOLD} | {LOST} |"]
  lines.append("|---" * (len(DAMAGES) + 4) + "|")
  names = dict.fromkeys(name for name, _, _ in counts)
  rows = [(name, {name}) for name in KINDS if name in names] + [("**all**", set(names))]
  for title, of in rows:
    tried = [sum(n for (k, d, _), n in counts.items() if k in of and d == how) for how in DAMAGES]
    ends = [
      sum(n for (k, _, o), n in counts.items() if k in of and o == end)
      for end in (HELD, TOLD, LOST)
    ]
    lines.append(f"| {title} | {' | '.join(map(str, [*tried, *ends]))} |")
  return "\n".join(lines)


def main() -> None:
  """Command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--cases", type=int, default=2000)
  parser.add_argument("--only", default="", help="kinds whose name holds this")
  parser.add_argument("--at", type=int, help="this case alone")
  options = parser.parse_args()
  console.prepare()
  std_logging.disable(std_logging.CRITICAL)  # each damage is said loudly
  warnings.simplefilter("ignore")
  kinds = [name for name in KINDS if options.only in name]
  numbers = range(options.cases) if options.at is None else [options.at]
  counts, losses = attack(options.seed, numbers, kinds)
  print(table(counts))
  print("\n".join(losses), file=sys.stderr)
  print(f"{sum(counts.values())} damages of seed {options.seed}: {len(losses)} lost.")
  sys.exit(bool(losses))


if __name__ == "__main__":
  main()
