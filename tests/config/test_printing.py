"""`python -m semiseg_jax.config`: every key, aligned; the values of an experiment."""

import pathlib
import re
import subprocess
import sys

import pytest

from configs import cps_city
from semiseg_jax.config import printing, reads, schema

REPOSITORY = pathlib.Path(__file__).parents[2]


def _run(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "semiseg_jax.config", *arguments],
    cwd=REPOSITORY,
    capture_output=True,
    text=True,
  )


def _printed(lines):
  """Path -> (mark, the rest of its lines as one text)."""
  found, block, path = {}, "", ""
  for line in lines:
    heading = re.match(r"(\S.*\S)    \(semiseg_jax/", line)
    row = re.match(r"([* ]) (\w+) {2,}(.*)", line)
    if heading:
      block = "" if heading[1] == "at the top" else f"{heading[1]}."
    elif row:
      path = block + row[2]
      assert path not in found
      found[path] = [row[1], row[3]]
    elif line.startswith(" " * 20):
      found[path][1] += f" {line.strip()}"
  return {path: (mark, " ".join(text.split())) for path, (mark, text) in found.items()}


def test_every_key_with_its_default_and_its_consequence():
  lines = list(printing.all_keys())
  assert max(map(len, lines)) <= 100
  found = _printed(lines)
  assert list(found) == list(schema.table())
  for path, entry in schema.table().items():
    default = "(to be chosen)" if entry.key.required else repr(entry.default)
    said = " ".join(f"{default} {entry.key.help}".split())
    assert found[path][1].startswith(said), path
  assert found["data.flip"][1].endswith("[0 or more, at most 1]")
  assert found["method.supervised_loss"][1].endswith("'ce+lovasz', 'focal+dice']")
  assert found["data.crop"][1].endswith("[2 whole numbers, each 1 or more]")


def test_an_experiment_marks_what_is_not_the_default_and_what_nobody_reads():
  config = cps_city.get_config("ratio=1_16")
  lines = list(printing.experiment(config))
  at = lines.index("Nobody reads in this run:")
  found, values = _printed(lines[:at]), schema.flat(config)
  unread = reads.unread(config)
  assert found.keys() == schema.table().keys() - unread.keys()
  for path, (mark, text) in found.items():
    default = schema.table()[path].default
    changed = values[path] != default
    assert (mark == "*") == changed, path
    assert text == f"{values[path]!r}" + f" default {default!r}" * changed
  tail = "\n".join(lines[at:])
  shared = "method.{threshold box_p box_partner joint_statistics}"
  assert f"method.name='cps'\n    {shared}, method.advsemiseg.*," in tail
  unread = " ".join(tail.split())
  assert "method.fixmatch.*, method.gct.*, method.mean_teacher.*" in unread
  assert "data.augment='cps'\n    data.{pair_scales base_size}" in tail
  assert max(map(len, lines)) <= 100


@pytest.mark.slow
def test_the_command():
  ended = _run()
  assert ended.returncode == 0 and ended.stderr == ""
  assert ended.stdout.splitlines()[:2] == list(printing.all_keys())[:2]
  ended = _run("--config=configs/cps_toy.py:ratio=1_8", "--config.train.steps=7")
  assert ended.returncode == 0 and "* steps                 7" in ended.stdout
  ended = _run("--config=configs/cps_toy.py", "--config.method.mean_teacher.decay=0.5")
  assert ended.returncode == 2 and "method.mean_teacher.decay=0.5: " in ended.stderr
  assert "Nobody reads" in ended.stdout
  ended = _run("--config=configs/cps_toy.py:ratio=1_3,methods=cps")
  assert ended.returncode == 2
  (line,) = ended.stderr.splitlines()
  assert "ratio='1_3': one of 1_16" in line and "'methods=cps': write key=value with" in line
