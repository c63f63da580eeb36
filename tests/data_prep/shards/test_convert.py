"""Preparation by several processes: equal bytes, all problems at once, continued after a kill."""

import contextlib
import functools
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from data_prep import folder
from data_prep.shards import convert, convert_plan
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import DataError
from tests.data_prep import made_source
from tests.data_prep.made_source import CLASSES, COLORS, Made, items

REPOSITORY = pathlib.Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(REPOSITORY)}


def _convert(out, pictures=None, load=made_source.load, workers=0, **options):
  return convert.convert(
    out,
    items(20) if pictures is None else pictures,
    load,
    **{
      "name": "made",
      "classes": CLASSES,
      "colors": COLORS,
      "channels": 3,
      "source_ignore_id": 9,
      "lists": {"train": ["p03", "p01"]},
      "workers": workers,
      "overwrite": False,
      **options,
    },
  )


def _tree(root):
  files = sorted(path for path in pathlib.Path(root).rglob("*") if path.is_file())
  return {str(path.relative_to(root)): path.read_bytes() for path in files}


def test_what_is_made(tmp_path):
  info = _convert(tmp_path / "d")
  dataset = Dataset.open(tmp_path / "d")
  assert info == dataset.info and info.ids == tuple(f"p{i:02d}" for i in range(20))
  assert (info.name, info.classes, info.colors) == ("made", CLASSES, COLORS)
  assert (info.source_ignore_id, info.codec, info.lists) == (9, "keep", {"train": ("p03", "p01")})
  assert [shard.records for shard in dataset.shards] == [3] * 6 + [2]
  for i in (0, 7, 19):
    image, label = made_source.picture(i)
    np.testing.assert_array_equal(dataset.read(i).image, image)
    assert (dataset.read(i).label is None) == (label is None)
  labels = [made_source.picture(i)[1] for i in range(20)]
  counts = sum(np.bincount(label.ravel(), minlength=256) for label in labels if label is not None)
  assert info.class_pixels == (*counts[:3], counts[255])
  assert [path.name for path in tmp_path.iterdir()] == ["d"]


@pytest.mark.slow
def test_bytes_do_not_depend_on_the_number_of_workers(tmp_path):
  for workers in (0, 1, 3):
    _convert(tmp_path / str(workers), workers=workers)
  trees = [_tree(tmp_path / str(workers)) for workers in (0, 1, 3)]
  assert len(trees[0]) == 9 and trees[0] == trees[1] == trees[2]


@pytest.mark.parametrize("workers", [0, 2])
def test_all_problems_in_the_order_of_the_items(tmp_path, workers):
  load = functools.partial(made_source.load_but, wrong=(1, 13), lost=(8,), class_ids=(19,))
  lists = {"train": ["p02", "nobody", "p02"], "none_of_it": []}
  doubled = [*items(20), Made("p05", 5), Made("a\nb", 6)]
  with pytest.raises(DataError) as caught:
    _convert(tmp_path / "d", doubled, load, workers, problems=["known before"], lists=lists)
  expected = [
    "12 problems with the source files, nothing was written",
    "known before",
    "id 'p05' stands for 2 pictures",
    "list 'none_of_it' is empty",
    "list 'train' names 'p02' 2 times",
    "list 'train' names 'nobody'",
    "p01: torn",
    "p01: and wet",
    "picture 'p08' cannot be read",
    "p13: torn",
    "p13: and wet",
    "label of 'p19' has class ids [7]",
    r"id 'a\nb' cannot stand on a line",
  ]
  lines = str(caught.value).splitlines()
  assert [line[: len(start)] for line, start in zip(lines, expected)] == expected
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_after_finished_shards_leaves_nothing(tmp_path, workers):
  load = functools.partial(made_source.load_but, wrong=(13, 19))
  with pytest.raises(DataError, match="4 problems .*\np13: torn\n.*\np19: torn"):
    _convert(tmp_path / "d", load=load, workers=workers)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_the_program_is_not_hidden(tmp_path, workers):
  with pytest.raises(TypeError, match="nonsense"):
    load = functools.partial(made_source.load_but, nonsense=1)
    _convert(tmp_path / "d", load=load, workers=workers)
  assert not (tmp_path / "d").exists()


def test_codecs(tmp_path):
  said = []
  for codec in ("keep", "raw", "jpeg95"):
    info = _convert(tmp_path / codec, codec=codec, say=said.append)
    assert info.codec == codec == Dataset.open(tmp_path / codec).info.codec
  assert len(said) == 1 and "WARNING: --codec jpeg95 is lossy" in said[0]
  image = made_source.picture(4)[0]
  for codec, exact in (("keep", True), ("raw", True), ("jpeg95", False)):
    assert np.array_equal(Dataset.open(tmp_path / codec).read(4).image, image) == exact


@pytest.mark.parametrize("flags", [["--codec", "jpeg90"], ["--workers", "-1"], ["--workers", "x"]])
def test_flags_that_cannot_be(flags, capsys):
  with pytest.raises(SystemExit, match="2"):
    folder.main(["--images", "i", "--classes", "c", "--out", "o", *flags])
  assert f"argument {flags[0]}: " in capsys.readouterr().err


def test_no_pictures(tmp_path):
  with pytest.raises(DataError, match="no pictures were added"):
    _convert(tmp_path / "d", [], lists={})
  assert list(tmp_path.iterdir()) == []


def test_shards_are_cut_by_size():
  def cut(sizes, codec="keep"):
    pictures = [Made(str(i), i, size) for i, size in enumerate(sizes)]
    parts = convert_plan.plan_parts(pictures, codec)
    assert [item for part in parts for item in part.items] == pictures
    assert [part.number for part in parts] == list(range(len(parts)))
    return [len(part.items) for part in parts]

  million = 1 << 20
  assert cut([]) == [] and cut([1]) == [1] and cut([0] * 5) == [5]
  assert cut([300 * million] * 3) == [1] * 3
  assert cut([2 * million] * 16) == [4] * 4  # 32 MB: no less than 8 MB each
  assert cut([2 * million] * 320) == [20] * 16  # 640 MB: sixteen
  assert cut([2 * million] * 3000) == [128] * 23 + [56]  # 256 MB each
  assert len(cut([2 * million] * 3000, "raw")) > 60
  assert len(cut([2 * million] * 3000, "jpeg95")) == 16


@contextlib.contextmanager
def _process(place):
  """A preparation of `place`/d in a process of its own that hangs in shard 3, all others done."""
  (place / "gate").write_text("wait")
  process = subprocess.Popen(
    [sys.executable, __file__, str(place), "2"],
    cwd=REPOSITORY,
    env=ENVIRONMENT,
    stderr=subprocess.DEVNULL,
  )
  try:
    _wait_until(
      lambda: process.poll() is not None or len(list(place.glob(".d.partial-*/*.json"))) == 6
    )
    assert process.poll() is None
    yield process
  finally:
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory):
  """A place where a preparation was killed, and a copy of what it left."""
  place, copy = tmp_path_factory.mktemp("killed"), tmp_path_factory.mktemp("copy")
  with _process(place) as process:
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    _wait_for_end_of_workers(place)
  (place / "gate").unlink()
  return place, shutil.copytree(place, copy / "d")


@pytest.fixture
def killed(killed_once):
  """A place as a killed preparation left it."""
  place, copy = killed_once
  shutil.rmtree(place)
  return shutil.copytree(copy, place)


def _hanging(tmp_path, **options):
  load = functools.partial(made_source.load_until, gate=str(tmp_path / "gate"), stop=10)
  return _convert(tmp_path / "d", **{"load": load} | options)


def _wait_for_end_of_workers(place):
  """Waits until no process has an unfinished shard open."""
  _wait_until(
    lambda: (
      not any(_opens(pid, f"{place}/.d.partial") for pid in os.listdir("/proc") if pid.isdigit())
    )
  )


def _opens(pid, start):
  try:
    return any(os.readlink(p).startswith(start) for p in pathlib.Path(f"/proc/{pid}/fd").iterdir())
  except OSError:
    return False


@pytest.mark.slow
def test_killed_and_continued(killed):
  (partial,) = killed.glob(".d.partial-*")
  for place in (killed / "d", partial):
    with pytest.raises(DataError, match="make it with"):
      Dataset.open(place)
  before = {path: path.stat().st_mtime_ns for path in partial.glob("*.array_record")}
  said = []
  _hanging(killed, say=said.append)
  assert said == ["6 of 7 shards were already done, kept."]
  for path, time_ns in before.items():
    assert (killed / "d" / path.name).stat().st_mtime_ns == time_ns
  assert sorted(path.name for path in killed.iterdir()) == ["d"]
  _hanging(killed, overwrite=True)
  again = _tree(killed / "d")
  _convert(killed / "e")
  assert again == _tree(killed / "e")


@pytest.mark.slow
def test_an_interrupt_keeps_what_is_done(tmp_path):
  with _process(tmp_path) as process:
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.3)
    (tmp_path / "gate").unlink()
    assert process.wait(30) != 0
  (partial,) = tmp_path.glob(".d.partial-*")
  names = {path.stem for path in partial.glob("*.json")}
  assert names >= {f"records-{i:05d}" for i in range(7) if i != 3}
  assert {path.stem for path in partial.iterdir()} == names


def test_remains_of_other_pictures_or_options_are_removed(killed):
  for change in (
    {"pictures": [Made(p.id, p.seed, p.bytes, "2") for p in items(20)]},
    {"load": functools.partial(made_source.load_until, gate="elsewhere", stop=10)},
    {"codec": "raw"},
    {"classes": ("street", "sky", "car")},
  ):
    (partial,) = killed.glob(".d.partial-*")
    said = []
    _hanging(killed, say=said.append, **change)
    assert len(said) == 1 and f"{partial} is removed" in said[0]
    shutil.copytree(killed / "d", partial)
    shutil.rmtree(killed / "d")


def test_an_error_of_the_data_keeps_what_a_kill_had_left(killed):
  with pytest.raises(DataError, match="1 problem .*\n.*'nobody'"):
    _hanging(killed, lists={"train": ["nobody"]})
  assert not (killed / "d").exists()
  said = []
  _hanging(killed, say=said.append)
  assert "6 of 7 shards" in said[0]


@pytest.mark.parametrize("damage", ["shorter", "no summary", "half a summary"])
def test_a_shard_that_is_not_whole_is_made_again(killed, damage):
  (partial,) = killed.glob(".d.partial-*")
  summary = partial / "records-00001.json"
  if damage == "shorter":
    os.truncate(partial / "records-00001.array_record", 1000)
  elif damage == "no summary":
    summary.unlink()
  else:
    os.truncate(summary, 100)
  said = []
  _hanging(killed, say=said.append)
  assert "5 of 7 shards" in said[0]
  _convert(killed / "e")
  shown = {name: data for name, data in _tree(killed / "d").items() if "records" in name}
  assert shown.items() <= _tree(killed / "e").items()


def test_a_process_that_dies(tmp_path):
  (tmp_path / "gate").write_text("die")
  with pytest.raises(DataError, match="not finished: a process ended .* fewer --workers"):
    _hanging(tmp_path, workers=1)
  assert not (tmp_path / "d").exists() and len(list(tmp_path.glob(".d.partial-*/*.json"))) == 3
  (tmp_path / "gate").unlink()
  assert len(_hanging(tmp_path).ids) == 20


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_full_disk(tmp_path, workers):
  """Files may hold 2 MB, the first shard's four pictures; later ones are larger."""
  command = f"{sys.executable} {__file__} {tmp_path} {workers} full"
  done = subprocess.run(
    command.split(), cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True
  )
  assert done.returncode == 1
  message = done.stderr.splitlines()[-1]
  assert re.search(r"DataError: .*/d was not finished: .*File too large.* start the same", message)
  assert not (tmp_path / "d").exists()
  (partial,) = tmp_path.glob(".d.partial-*")
  assert {path.suffix for path in partial.iterdir()} == {".json", ".array_record"}
  said = []
  _convert(tmp_path / "d", *_growing(tmp_path), say=said.append, lists={})
  assert "1 of 2 shards was already done" in said[0]


@pytest.mark.slow
def test_memory_is_bounded(tmp_path):
  """Two shards of 190 MB at once, so a process that held its records would be noticed."""
  command = f"{sys.executable} {__file__} {tmp_path} 2 memory"
  done = subprocess.run(
    command.split(), cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True, check=True
  )
  own, largest_worker = map(int, done.stdout.split())
  assert own + 2 * largest_worker < 550 << 10  # kB; the aim is 1 GB in all
  assert [shard.records for shard in Dataset.open(tmp_path / "d").shards] == [30, 30]


def _growing(place):
  """Pictures for two shards, and how to load them: the second shard's when the first is done."""
  pictures = [Made(f"p{i}", i, (2 if i < 4 else 1) << 20) for i in range(10)]
  return pictures, functools.partial(made_source.load_big, place=str(place), after=4)


def test_who_comes_second_waits_for_the_first(tmp_path):
  (tmp_path / "gate").write_text("wait")
  said, errors = [], []

  def second():
    try:
      _convert(tmp_path / "d", say=said.append)
    except DataError as error:
      errors.append(str(error))

  def first():
    _hanging(tmp_path)

  threads = [threading.Thread(target=target) for target in (first, second)]
  threads[0].start()
  _wait_until(lambda: list(tmp_path.glob(".d.partial-*/*.json")))
  threads[1].start()
  _wait_until(lambda: said)
  assert "waiting until it is done" in said[0] and not errors
  (tmp_path / "gate").unlink()
  for thread in threads:
    thread.join(30)
  assert "d exists; choose another folder" in errors[0]
  assert len(Dataset.open(tmp_path / "d")) == 20
  assert [path.name for path in tmp_path.iterdir()] == ["d"]


def _wait_until(condition):
  limit = time.monotonic() + 60
  while not condition():
    assert time.monotonic() < limit
    time.sleep(0.02)


if __name__ == "__main__":  # a preparation in a process of its own
  place, number, *what = sys.argv[1:]
  if what == ["memory"]:
    pictures = [Made(f"p{i:02d}", i, 100_000) for i in range(60)]
    _convert(f"{place}/d", pictures, made_source.load_city, int(number), codec="raw")
    # Not ru_maxrss of this process: that one begins with what its parent held.
    status = pathlib.Path("/proc/self/status").read_text()
    print(re.search(r"VmHWM:\s*(\d+) kB", status)[1])
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
  elif what == ["full"]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2200000, 2200000))
    _convert(f"{place}/d", *_growing(place), int(number), lists={})
  else:
    _hanging(pathlib.Path(place), workers=int(number))
