"""What is wrong with the files of a user is named, and no dataset appears; then it can be mended.

More of these are in test_folder.py (names, lists, hold-outs) and test_pictures.py (kinds of files).
"""

import io
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from data_prep import folder, inspect
from semiseg_jax.data.dataset import METADATA, Dataset
from semiseg_jax.errors import DataError

REPOSITORY = pathlib.Path(__file__).parents[2]
SHARD = "records-00000.array_record"
rng = np.random.default_rng(0)
RGB = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
IDS = rng.integers(0, 3, (40, 50), dtype=np.uint8)


@pytest.fixture
def source(tmp_path):
  """Pictures a to f, labels of a to d, a list; three classes."""
  for part in ("images", "labels"):
    (tmp_path / part).mkdir()
  for name in "abcdef":
    Image.fromarray(RGB).save(tmp_path / f"images/{name}.{'jpg' if name == 'a' else 'png'}")
  for name in "abcd":
    Image.fromarray(IDS).save(tmp_path / f"labels/{name}.png")
  (tmp_path / "classes.txt").write_text("road\nsky\ncar\n")
  (tmp_path / "list.txt").write_text("a\nc\n")
  return tmp_path


def _arguments(source):
  return [
    *("--images", f"{source}/images", "--labels", f"{source}/labels", "--out", f"{source}/out"),
    *("--classes", f"{source}/classes.txt", "--list", f"labeled_1_2={source}/list.txt"),
    *("--workers", "0"),
  ]


def _png(pixels, **options):
  out = io.BytesIO()
  Image.fromarray(pixels).save(out, "PNG", **options)
  return out.getvalue()


def _cut(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def _animate(path, kind):
  frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
  frames[0].save(path, kind, save_all=True, append_images=frames[1:])


def _empty(path):
  shutil.rmtree(path)
  path.mkdir()


def _unlabeled_on_val(source):
  (source / "list.txt").write_text("a\ne\n")


BROKEN = {
  "truncated PNG": (lambda s: _cut(s / "images/b.png"), r"images/b\.png: cannot be read .*replace"),
  "truncated JPEG": (
    lambda s: _cut(s / "images/a.jpg"),
    r"images/a\.jpg: cannot be read .*replace",
  ),
  "truncated label": (lambda s: _cut(s / "labels/b.png"), r"labels/b\.png: cannot be read"),
  "picture of zero bytes": (
    lambda s: (s / "images/b.png").write_bytes(b""),
    r"images/b\.png: cannot be read",
  ),
  "label of zero bytes": (
    lambda s: (s / "labels/b.png").write_bytes(b""),
    r"labels/b\.png: cannot be read",
  ),
  "text with the name of a picture": (
    lambda s: (s / "images/b.png").write_text("<html>404 Not Found</html>"),
    r"images/b\.png: cannot be read .*replace or remove it",
  ),
  "link to nothing": (
    lambda s: (s / "images/g.png").symlink_to(s / "gone.png"),
    r"images/g\.png: cannot be read .*No such file",
  ),
  "label of another size": (
    lambda s: (s / "labels/b.png").write_bytes(_png(IDS[:39])),
    r"labels/b\.png: 50x39 pixels, its picture .*images/b\.png 50x40; make them one size",
  ),
  "label that is turned": (
    lambda s: (s / "labels/b.png").write_bytes(_png(np.ascontiguousarray(IDS.T))),
    r"labels/b\.png: 40x50 pixels, its picture .* 50x40",
  ),
  "label in colors": (
    lambda s: (s / "labels/b.png").write_bytes(_png(RGB)),
    r"labels/b\.png: a color picture .*--label_colors",
  ),
  "label with alpha": (
    lambda s: (s / "labels/b.png").write_bytes(_png(np.dstack([IDS, IDS]))),
    r"labels/b\.png: \d+ transparent pixels, .*; fill them",
  ),
  "label of fractions": (
    lambda s: (np.save(s / "labels/b.npy", IDS / 2), (s / "labels/b.png").unlink()),
    r"labels/b\.npy: float64 values where class ids are expected",
  ),
  "id outside the classes": (
    lambda s: (s / "labels/b.png").write_bytes(_png(np.where(IDS == 2, 7, IDS).astype(np.uint8))),
    r"labels/b\.png: 7 \(\d+ pixels\) outside the classes \(ids 0 to 2, ignored 255\)",
  ),
  "id of 16 bits outside the classes": (
    lambda s: (s / "labels/b.png").write_bytes(_png(IDS.astype(np.uint16) + 1000)),
    r"labels/b\.png: 1000 \(\d+ pixels\), 1001 .* outside the classes",
  ),
  "picture of 16 bits": (
    lambda s: (s / "images/b.png").write_bytes(_png(IDS.astype(np.uint16) * 9)),
    r"images/b\.png: uint16 values from 0 to 18; .*--value_range",
  ),
  "picture that can be seen through": (
    lambda s: (s / "images/b.png").write_bytes(_png(np.dstack([RGB, RGB[..., 0]]))),
    r"images/b\.png: 4 channels instead of 3; convert it",
  ),
  "animated PNG": (
    lambda s: _animate(s / "images/b.png", "PNG"),
    r"images/b\.png: 2 pictures in one file",
  ),
  "animated WebP": (
    lambda s: _animate(s / "images/g.webp", "WEBP"),
    r"images/g\.webp: 2 pictures in one file",
  ),
  "label without a picture": (
    lambda s: (s / "images/b.png").unlink(),
    r"label .*labels/b\.png has no picture in .*images",
  ),
  "two pictures of one id": (
    lambda s: shutil.copy(s / "images/b.png", s / "images/b.bmp"),
    r"id 'b' stands for .*b\.bmp and for .*b\.png; .*unique",
  ),
  "no pictures": (lambda s: _empty(s / "images"), r"no pictures in .*images; correct the path"),
  "no labels": (lambda s: _empty(s / "labels"), r"no labels in .*labels; correct the path"),
  "labels of a lossy kind": (
    lambda s: Image.fromarray(IDS).save(s / "labels/b.png", "JPEG"),
    r"labels/b\.png: labels must be lossless, this is of the kind JPEG",
  ),
  "empty list": (
    lambda s: (s / "list.txt").write_text("\n \n"),
    r"list '.*list\.txt' is empty; give at least one id",
  ),
  "list with an unknown id": (
    lambda s: (s / "list.txt").write_text("a\nnobody\n"),
    r"list\.txt, line 2: 'nobody' names no picture",
  ),
  "list with an id twice": (
    lambda s: (s / "list.txt").write_text("a\nc\na.jpg\n"),
    r"list\.txt' names 'a' 2 times; remove the repetition",
  ),
  "list that is no text": (
    lambda s: (s / "list.txt").write_bytes(_png(RGB)),
    r"list\.txt cannot be read",
  ),
  "list of labels with an unlabeled picture": (
    _unlabeled_on_val,
    r"list 'labeled_1_2' \(.*list\.txt\) names 'e', which has no label; add its label",
  ),
  "no list": (lambda s: (s / "list.txt").unlink(), r"list\.txt cannot be read .*correct the path"),
  "classes twice": (
    lambda s: (s / "classes.txt").write_text("road\nsky\nroad\n"),
    r"classes\.txt: name road stands for two classes",
  ),
  "no classes": (lambda s: (s / "classes.txt").write_text(""), r"classes\.txt: 0 classes"),
  "place that is taken": (
    lambda s: ((s / "out").mkdir(), (s / "out/thesis.txt").write_text("years of work")),
    r"out exists and holds no dataset\.json, so it is not overwritten",
  ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_the_command_names_what_is_wrong(source, kind):
  break_it, message = BROKEN[kind]
  break_it(source)
  before = sorted(source.rglob("*"))
  with pytest.raises(SystemExit, match=rf"\Aerror: (1 problem .*:\n)?.*{message}"):
    folder.main(_arguments(source))
  assert sorted(source.rglob("*")) == before
  with pytest.raises(DataError):
    Dataset.open(source / "out")


def test_all_kinds_at_once(source):
  """One of each kind that concerns a single file or line, each in the one message."""
  (source / "images/x.png").write_bytes(b"")
  _cut(source / "images/b.png")
  (source / "labels/c.png").write_bytes(_png(IDS[:39]))
  (source / "labels/d.png").write_bytes(_png(IDS + 9))
  (source / "list.txt").write_text("a\nnobody\ne\n")
  with pytest.raises(
    SystemExit, match=r"error: 6 problems with the source files, nothing"
  ) as error:
    folder.main(_arguments(source))
  for part in (
    "x.png",
    "b.png",
    "c.png: 50x39",
    "d.png: 9 (",
    "'nobody'",
    "'e', which has no label",
  ):
    assert part in str(error.value)


def test_lists_as_windows_writes_them(source):
  (source / "list.txt").write_bytes(b"\xef\xbb\xbfa.jpg\r\n\r\nimages\\c.png\r\n")
  folder.main(_arguments(source))
  assert Dataset.open(source / "out").info.lists["labeled_1_2"] == ("a", "c")


@pytest.mark.parametrize("place", ["classes.txt/out", "/proc/out"])
def test_a_place_that_cannot_be_written_to(source, place):
  with pytest.raises(SystemExit, match="error: cannot write to .*out .*choose another folder"):
    folder.main([*_arguments(source), "--out", str(source / place)])


# Files end at 20 kB; then the command that follows.
LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_full_disk(source, workers):
  command = ["-m", "data_prep.folder", *_arguments(source), "--workers", workers]
  before = sorted(source.rglob("*"))
  done = subprocess.run(
    [sys.executable, "-c", LIMITED, *command], cwd=REPOSITORY, capture_output=True, text=True
  )
  assert done.returncode == 1
  message = done.stderr.strip().splitlines()[-1]
  assert message.startswith(f"error: {source}/out was not finished: cannot write ")
  assert "File too large" in message and "start the same command again" in message
  assert sorted(source.rglob("*")) == before
  folder.main(_arguments(source))
  assert len(Dataset.open(source / "out")) == 6


@pytest.mark.slow
def test_killed_in_the_middle(source):
  """The last picture is a pipe, whose reader waits until somebody writes to it."""
  for name in "xy":
    np.save(source / f"images/{name}.npy", np.zeros((1500, 2000, 3), np.uint8))
  os.mkfifo(source / "images/z.png")
  command = [sys.executable, "-m", "data_prep.folder", *_arguments(source), "--workers", "1"]
  process = subprocess.Popen(
    command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
  )
  limit = time.monotonic() + 60
  while len(list(source.glob(".out.partial-*/*.json"))) < 2:
    assert process.poll() is None and time.monotonic() < limit
    time.sleep(0.02)
  readers = psutil.Process(process.pid).children(recursive=True)
  os.kill(process.pid, signal.SIGKILL)
  assert process.wait() == -signal.SIGKILL
  _, alive = psutil.wait_procs(readers, timeout=60)  # else one may take what is written below
  assert not alive
  (partial,) = source.glob(".out.partial-*")
  for place in (source / "out", partial):
    with pytest.raises(SystemExit, match="error: .*make it with"):
      inspect.main([str(place)])
  writer = threading.Thread(target=(source / "images/z.png").write_bytes, args=(_png(RGB),))
  writer.start()
  done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
  writer.join()
  assert "2 of 3 shards were already done" in done.stdout and not list(source.glob(".out*"))
  dataset = Dataset.open(source / "out")
  assert dataset.info.ids == tuple("abcdefxyz")
  np.testing.assert_array_equal(dataset.read(8).image, RGB)


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 10] ^= 0xFF
  path.write_bytes(data)


DAMAGED = {
  "flipped bit": (lambda out: _flip(out / SHARD), rf"2 problems .*\n{SHARD}: not the bytes"),
  "shard missing": (lambda out: (out / SHARD).unlink(), rf"{SHARD}: missing"),
  "shard cut off": (lambda out: _cut(out / SHARD), rf"{SHARD}: \d+ bytes instead of \d+"),
  "list missing": (lambda out: (out / "lists/train.txt").unlink(), r"lists/train\.txt: missing"),
  "metadata cut off": (lambda out: _cut(out / METADATA), rf"{METADATA}: damaged"),
  "metadata missing": (lambda out: (out / METADATA).unlink(), r"out holds no finished dataset"),
  "older format": (
    lambda out: (out / METADATA).write_text('{"format": 1}'),
    rf"{METADATA}: format 1, this program reads 2; prepare the dataset again",
  ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_dataset_is_told_by_inspect(source, kind, capsys):
  folder.main(_arguments(source))
  damage, message = DAMAGED[kind]
  damage(source / "out")
  with pytest.raises(SystemExit, match=rf"\Aerror: (.*\n)*?.*{message}"):
    inspect.main([str(source / "out"), "--workers", "0"])
  assert "verified" not in capsys.readouterr().out
