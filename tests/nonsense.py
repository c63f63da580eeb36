"""Feeds every command nonsense, and looks that each answer is a message and no traceback.

  python -m tests.nonsense --seed=0 --cases=300 [--processes] [--only=predict] [--at=17]

A case is a command with sound arguments of which one or two are spoiled: files of random bytes,
empty, cut, with flipped bits, of another kind, JSON of wrong types; folders in place of files and
the reverse, links that lead nowhere or to themselves, names that are no text; places that cannot be
written (below a file, under /proc), a limit on the size of files for a disk that is full; texts and
numbers that options do not take.  Case k of a seed is always the same: --at repeats one.  With
--processes every case is a process of its own, as users start it; otherwise all run in this one.
"""

import argparse
import collections
import contextlib
import dataclasses
import importlib
import io
import json
import os
import pathlib
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import traceback
import types
import zipfile
from collections.abc import Callable, Sequence
from unittest import mock

import numpy as np
from PIL import Image

from tests import small_city

REPOSITORY = pathlib.Path(__file__).parents[1]
ENDS = (None, 0, 1, 2, 130, 141)  # statuses of a command that says what is wrong, or did its work
LONGEST = 40  # lines of a message

TEXTS = (
  "",
  "-1",
  "nan",
  "inf",
  "1e999",
  "9" * 25,
  "0",
  "a b",
  "../..",
  "%s{}",
  "é\udcff",
  "\n",
  "[",
)
# Module -> its sound arguments; NAME is a sample, OUT a new path.
COMMANDS = {
  "semiseg_jax.evaluate": "--workdir WORKDIR --split LIST --data_root DATA",
  "semiseg_jax.predict": "--workdir WORKDIR --images PICTURES --out OUT",
  "semiseg_jax.label": "--workdir WORKDIR --data_root DATA --out OUT",
  "semiseg_jax.suggest": "--workdir WORKDIR --images PICTURES --labeled LIST --data_root DATA "
  "--out OUT",
  "semiseg_jax.export": "--workdir WORKDIR --out OUT.npz",
  "semiseg_jax.main": "--config=CONFIG --workdir=OUT "
  "--config.data.root=DATA --config.data.val=LIST",
  "semiseg_jax.config": "--config=CONFIG",
  "semiseg_jax.benchmark.summary": "--config=CONFIG",
  "data_prep.folder": "--images PICTURES --labels LABELS "
  "--classes CLASSES --list train=LIST --out OUT",
  "data_prep.voc": "--source ARCHIVE --augmented ARCHIVE --out OUT",
  "data_prep.cityscapes": "--source ARCHIVE --out OUT",
  "data_prep.inspect": "DATA --sheet OUT.png",
  "data_prep.splits": "--dataset DATA --of LIST --count 2 --out OUT",
  "data_prep.targets": "--dataset DATA --masks LABELS --labeled LIST --classes CLASSES --out OUT",
  "data_prep.pretrained": "--source WEIGHTS --backbone resnet18 --out OUT",
  "data_prep.published": "--source WEIGHTS --config=CONFIG --dataset DATA --out OUT",
}
# Options beside those, with a text that is no good.
OPTIONS = {
  "semiseg_jax.evaluate": ("step", "network", "stack", "split", "window", "gate"),
  "semiseg_jax.predict": ("step", "network", "batch", "max_pixels", "value_range"),
  "semiseg_jax.label": ("step", "labeled", "unlabeled", "scales"),
  "semiseg_jax.suggest": ("step", "network", "number", "by", "labeled", "batch"),
  "semiseg_jax.export": ("step", "network"),
  "semiseg_jax.main": (
    "config.seed",
    "config.data.labeled",
    "config.train.steps",
    "config.init_from",
  ),
  "semiseg_jax.config": ("config.seed", "config.data.mean"),
  "semiseg_jax.benchmark.summary": ("config.model.backbone", "config.data.crop"),
  "data_prep.folder": ("ignore_id", "group", "holdout", "name", "label_suffix", "value_range"),
  "data_prep.voc": ("name",),
  "data_prep.cityscapes": ("name",),
  "data_prep.inspect": ("sheet",),
  "data_prep.splits": ("count", "ratio", "of", "group", "seed", "order"),
  "data_prep.targets": ("name", "mask_suffix", "labeled", "unlabeled"),
  "data_prep.pretrained": ("prefix",),
  "data_prep.published": ("prefix",),
}


@dataclasses.dataclass(frozen=True)
class Case:
  """module: of the command.  arguments: for it.  limit: bytes of a file on a disk that is full."""

  module: str
  arguments: tuple[str, ...]
  limit: int | None


class Samples:
  """Sound files and folders, by name."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder
    small_city.write(folder / "data", pictures=4, val=2, size=(32, 40))
    rng = np.random.default_rng(0)
    for name in ("pictures", "labels"):
      (folder / name).mkdir()
    for i in range(3):
      Image.fromarray(rng.integers(0, 256, (16, 20, 3), np.uint8)).save(
        folder / f"pictures/{i}.png"
      )
      Image.fromarray(rng.integers(0, 3, (16, 20), np.uint8)).save(folder / f"labels/{i}.png")
    (folder / "classes.txt").write_text("ground\ndisc\nbox\n")
    (folder / "list.txt").write_text("0\n1\n")
    (folder / "ids.txt").write_text("val_00\nval_01\n")
    with zipfile.ZipFile(folder / "archive.zip", "w") as archive:
      for file in sorted((folder / "pictures").iterdir()):
        archive.write(file, f"VOCdevkit/VOC2012/JPEGImages/{file.name}")
    np.savez(folder / "weights.npz", **{"conv1.weight": rng.normal(size=(4, 3, 3, 3))})
    self._config(folder / "own.py")
    shutil.unpack_archive(
      REPOSITORY / "tests/old_runs/cps_cutmix.tar.xz", folder / "runs", filter="data"
    )
    self.places = {
      "DATA": folder / "data",
      "PICTURES": folder / "pictures",
      "LABELS": folder / "labels",
      "CLASSES": folder / "classes.txt",
      "LIST": folder / "list.txt",
      "ARCHIVE": folder / "archive.zip",
      "WEIGHTS": folder / "weights.npz",
      "CONFIG": folder / "own.py",
      "WORKDIR": folder / "runs" / "cps_cutmix",
    }
    self.files = [file for file in sorted(folder.rglob("*")) if file.is_file()]

  def _config(self, file: pathlib.Path) -> None:
    lines = [
      "from tests import small_city",
      "def get_config(arg=None):",
      f"  return small_city.config({str(self.folder / 'data')!r}, 'ratio=1_4,method=supervised')",
    ]
    file.write_text("\n".join(lines) + "\n")


def _json(rng: random.Random, depth: int = 0) -> object:
  plain = [None, True, -1, 2**70, 1e308, "x", "", [], {}]
  if depth > 2 or rng.random() < 0.5:
    return rng.choice(plain)
  inner = [_json(rng, depth + 1) for _ in range(rng.randrange(4))]
  keys = ("format", "classes", "ids", "config", "name", "shards", "checksums", "stages", "images")
  return inner if rng.random() < 0.4 else {rng.choice(keys): x for x in inner}


def _changed_json(rng: random.Random, data: bytes) -> bytes:
  """One value of a JSON file becomes another, or is gone."""
  try:
    whole = json.loads(data)
  except ValueError:
    return json.dumps(_json(rng)).encode()
  place = whole
  while isinstance(place, dict | list) and place:
    key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
    if not isinstance(place[key], dict | list) or rng.random() < 0.5:
      if rng.random() < 0.3:
        del place[key]
      else:
        place[key] = _json(rng)
      break
    place = place[key]
  return json.dumps(whole).encode()


def content(rng: random.Random, data: bytes, others: Sequence[pathlib.Path]) -> bytes:
  """What stands in a spoiled file: of the sound bytes `data`, of another file, or nothing."""
  kind = rng.randrange(8)
  if kind == 0:
    return b""
  if kind == 1:
    return rng.randbytes(rng.choice((1, 7, 300, 5000)))
  if kind == 2:
    return rng.choice(TEXTS).encode("utf-8", "surrogateescape") * rng.choice((1, 50))
  if kind == 3:
    return json.dumps(_json(rng)).encode()
  if kind == 4:
    return _changed_json(rng, data)
  if kind == 5:
    return data[: rng.randrange(len(data) + 1)]
  if kind == 6 and data:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 3, 30))):
      changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)
  return rng.choice(others).read_bytes()


def spoil(rng: random.Random, file: pathlib.Path, others: Sequence[pathlib.Path]) -> None:
  """Spoils a file in place: what it holds, what it is, or what it is called."""
  data, kind = file.read_bytes(), rng.randrange(12)
  if kind > 5:
    file.write_bytes(content(rng, data, others))
    return
  file.unlink()
  if kind == 0:
    file.mkdir()
  elif kind == 1:
    file.symlink_to(rng.choice(("nowhere", file.name)))
  elif kind == 2:
    strange = os.fsencode(file.parent) + b"/" + rng.choice((b"\xff", b"a\nb", b" ", b"-x", b"%s"))
    with open(strange + os.fsencode(file.suffix), "wb") as opened:
      opened.write(data)
  elif kind == 3:
    file.with_name((file.stem * 9)[:200] + file.suffix).write_bytes(data)
  elif kind == 4:
    file.with_suffix(rng.choice((".txt", ".tif", ".npy", ".zip", ".PNG"))).write_bytes(data)


def _nowhere(rng: random.Random, new: pathlib.Path, samples: Samples) -> str:
  """A path at which nothing of use is, or can be."""
  loop = new.with_name(new.name + "-loop")
  loop.symlink_to(loop.name)
  below = samples.folder / "list.txt" / "below"
  return str(rng.choice((new, below, loop, "", "/proc/nowhere", "x" * 300, new.parent, os.devnull)))


def _spoiled(rng: random.Random, sample: pathlib.Path, new: pathlib.Path, samples: Samples) -> str:
  if rng.random() < 0.2:
    return _nowhere(rng, new, samples)
  if rng.random() < 0.15:
    return str(rng.choice(list(samples.places.values())))
  if sample.is_dir():
    shutil.copytree(sample, new, symlinks=True)
    for _ in range(rng.choice((1, 1, 3))):
      there = [file for file in sorted(new.rglob("*")) if file.is_file()]
      if there:
        spoil(rng, rng.choice(there), samples.files)
    return str(new)
  new = new.with_suffix(sample.suffix)
  shutil.copyfile(sample, new)
  spoil(rng, new, samples.files)
  return str(new)


def draw(rng: random.Random, module: str, folder: pathlib.Path, samples: Samples) -> Case:
  """A case of a command; what it needs is made in `folder`."""
  words = COMMANDS[module].split(" ")
  slots = [i for i, word in enumerate(words) if word.rpartition("=")[2].isupper()]
  outs = [i for i, word in enumerate(words) if "OUT" in word]
  bad = set(rng.sample([*slots, -1], rng.choice((1, 1, 2))))
  limit = rng.choice((0, 100, 3000)) if outs and rng.random() < 0.15 else None
  arguments = []
  for i, word in enumerate(words):
    name = word.rpartition("=")[2]
    new = folder / f"new{i}"
    if i in outs:
      place = _nowhere(rng, new, samples) if i in bad else str(folder / "out")
      word = word.replace("OUT", place)
    elif name in samples.places:
      sample = samples.places[name]
      if name == "LIST" and "DATA" in COMMANDS[module]:
        sample = samples.folder / "ids.txt"
      place = _spoiled(rng, sample, new, samples) if i in bad else str(sample)
      word = word[: len(word) - len(name)] + place
    arguments.append(word)
  if -1 in bad:
    text, option = rng.choice(TEXTS), rng.choice(OPTIONS[module])
    arguments.append(f"--{option}={text}")
  if module.startswith("data_prep.") and "--out" in words and "splits" not in module:
    if module not in ("data_prep.pretrained", "data_prep.published"):
      arguments.append("--workers=0" if module != "data_prep.targets" else "--overwrite")
  return Case(module, tuple(arguments), limit)


def _main_in_process(arguments: list[str]) -> None:
  """The command `main` up to the first batch: absl's flags can be parsed once in a process."""
  from semiseg_jax import main, train
  from semiseg_jax.config import command_line
  from semiseg_jax.errors import ending

  with mock.patch.object(main, "_DRY_RUN", types.SimpleNamespace(value=False)):
    chosen = [word for word in arguments if word.startswith("--config")]
    workdir = next(word for word in arguments if word.startswith("--workdir"))[len("--workdir=") :]
    config = command_line.read(chosen, "main")
    with mock.patch.object(train, "train_once", lambda config, *rest, **more: train.build(config)):
      with ending("main", workdir):
        main._run(config, workdir)


def _config_in_process(arguments: list[str]) -> None:
  from semiseg_jax.config import command_line, printing
  from semiseg_jax.errors import ending

  config = command_line.read(arguments, "config")
  with ending("config"):
    print("\n".join(printing.experiment(config)))


def _command(module: str) -> Callable[[list[str]], None]:
  if module == "semiseg_jax.main":
    return _main_in_process
  if module == "semiseg_jax.config":
    return _config_in_process
  if module == "semiseg_jax.benchmark.summary":
    return lambda arguments: importlib.import_module(module).main(["summary", *arguments])
  return importlib.import_module(module).main


@contextlib.contextmanager
def _files_up_to(limit: int | None):
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  if limit is not None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def answer(case: Case) -> str:
  """Runs a case in this process; returns "" where its end is a proper one, otherwise what was."""
  said = io.StringIO()
  try:
    command = _command(case.module)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
      with _files_up_to(case.limit):
        command(list(case.arguments))
  except SystemExit as ended:
    if isinstance(ended.code, str):
      said.write(ended.code)
      return _fault(said.getvalue(), 1)
    return _fault(said.getvalue(), ended.code)
  except Exception as error:
    frames = traceback.extract_tb(error.__traceback__)
    if frames[-1].filename in " ".join(case.arguments):  # a bug of the config, which is a program
      return ""
    return traceback.format_exc()
  return _fault(said.getvalue(), 0)


def answer_of_process(case: Case) -> str:
  """The same of a process of its own."""
  ended = subprocess.run(
    [sys.executable, "-m", case.module, *case.arguments],
    env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    capture_output=True,
    text=True,
    errors="replace",
    preexec_fn=lambda: _files_up_to(case.limit).__enter__(),
  )
  frames = re.findall(r'^  File "(.+)", line', ended.stderr, flags=re.MULTILINE)
  if frames and frames[-1] in " ".join(case.arguments):
    return ""
  return _fault(ended.stderr, ended.returncode)


def _fault(said: str, status: object) -> str:
  if status not in ENDS:
    return f"status {status}\n{said}"
  if "Traceback (most recent call last)" in said:
    return said
  if status == 1 and not said.strip():
    return "it ends with status 1 and no word"
  if len(said.splitlines()) > LONGEST + said.count("usage:") * LONGEST:
    return f"{len(said.splitlines())} lines:\n{said}"
  return ""


def run(
  seed: int,
  numbers: Sequence[int],
  modules: Sequence[str],
  answers: Callable[[Case], str] = answer,
) -> tuple[collections.Counter, list[str]]:
  """Runs cases of a seed; returns how many of each command, and what fell."""
  tried, fallen = collections.Counter(), []
  with tempfile.TemporaryDirectory() as temporary:
    root = pathlib.Path(temporary)
    (root / "samples").mkdir()
    samples = Samples(root / "samples")
    before = os.getcwd()
    os.chdir(_here(root))
    try:
      for number in numbers:
        rng, folder = random.Random(f"{seed} {number}"), root / f"case{number}"
        folder.mkdir()
        os.chdir(folder)  # texts may be taken for names of files
        case = draw(rng, modules[number % len(modules)], folder, samples)
        fault = answers(case)
        tried[case.module] += 1
        if fault:
          fallen.append(f"case {number}: {case}\n{fault}")
          print(fallen[-1], flush=True)
        os.chdir(root)
        shutil.rmtree(folder)
    finally:
      sys.path.remove(str(REPOSITORY))
      os.chdir(before)
  return tried, fallen


def _here(root: pathlib.Path) -> pathlib.Path:
  """A folder to call commands in: what one of them writes to a nonsense name lies there."""
  here = root / "here"
  here.mkdir()
  (here / "configs").symlink_to(REPOSITORY / "configs")
  return here


def main() -> None:
  """Command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--cases", type=int, default=300)
  parser.add_argument("--at", type=int, help="this case alone")
  parser.add_argument("--only", default="", help="commands whose name holds this")
  parser.add_argument("--processes", action="store_true", help="each a process of its own")
  options = parser.parse_args()
  modules = [name for name in COMMANDS if options.only in name]
  numbers = range(options.cases) if options.at is None else [options.at]
  answers = answer_of_process if options.processes else answer
  tried, fallen = run(options.seed, numbers, modules, answers)
  print(", ".join(f"{name} {count}" for name, count in tried.items()))
  print(f"{sum(tried.values())} cases of seed {options.seed}: {len(fallen)} fell.")
  sys.exit(bool(fallen))


if __name__ == "__main__":
  main()
