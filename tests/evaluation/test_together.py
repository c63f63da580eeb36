"""A picture that is broken for one of several processes costs none of them the run."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import types

import jax
import pytest

from semiseg_jax import peers
from semiseg_jax.errors import DataError, EvaluationError
from semiseg_jax.evaluation.together import Together, of_all
from semiseg_jax.training import validation
from tests import small_city

REPOSITORY = pathlib.Path(__file__).parents[2]
POOL = types.SimpleNamespace(
  info=types.SimpleNamespace(ids=["a"], sizes=[(4, 6)], channels=3), read=lambda index: 1 / 0
)


@pytest.fixture
def several(monkeypatch):
  """This process is number 1 of two; returns what the other says, and what this one said."""
  said = []

  def failures(reason, *, wait_s=peers.STUCK_S + 1):
    said.append((reason, wait_s <= peers.STUCK_S))
    return {1: reason} if reason else {}

  monkeypatch.setattr(jax, "process_count", lambda: 2)
  monkeypatch.setattr(peers, "failures", failures)
  return said


def test_one_process_alone_raises_at_once():
  with pytest.raises(ZeroDivisionError), Together() as together:
    together.read(POOL, 0)
    pytest.fail("it went on")


def test_one_of_several_goes_on_with_an_empty_picture_and_raises_at_the_end(several):
  after = []
  with pytest.raises(EvaluationError, match="process 1: ZeroDivisionError") as raised:
    with Together() as together:
      found = together.read(POOL, 0)
      after.append((found.id, found.image.shape, found.label.shape))
      with together.kept():
        raise DataError("a second one")
  assert after == [("a", (4, 6, 3), (4, 6))]
  assert isinstance(raised.value.__cause__, ZeroDivisionError)
  assert several == [("ZeroDivisionError: division by zero", False)]


def test_what_stops_the_work_of_all_waits_for_the_others_only_shortly(several):
  with pytest.raises(EvaluationError, match="no room"), Together():
    raise DataError("no room.")
  assert several == [("no room", True)]


def test_reasons_are_told_by_process(several):
  assert of_all({0: "a", 1: "a"}) == "a"
  assert of_all({1: "a"}) == "process 1: a"
  assert of_all({0: "a", 1: "b"}) == "process 0: a; process 1: b"


def test_a_process_whose_peers_do_not_come_ends_the_run():
  def evaluate(state, step, again=False):
    raise peers.OutOfStepError("a device is lost")

  with pytest.raises(EvaluationError, match="this process alone: a device is lost.*all hosts"):
    validation.Sheltered(evaluate, "w")(None, 3)


@pytest.mark.slow
def test_a_picture_that_is_broken_for_one_process_is_one_line_of_both(tmp_path):
  small_city.write(tmp_path / "whole", pictures=0, val=3, size=(32, 40))
  shutil.copytree(tmp_path / "whole", tmp_path / "broken")
  (shard,) = (tmp_path / "broken").glob("*.array_record")
  data = bytearray(shard.read_bytes())
  data[data.find(b"val_01") + 300] ^= 255
  shard.write_bytes(data)
  for out, err in _two_processes(tmp_path / "whole", tmp_path / "broken"):
    *scored, line = [line for line in out.splitlines() if not line.startswith("[Gloo]")]
    assert scored == ["None", "None"], err
    assert "w: step 4 is trained and saved" in line and "process 1: record 1 ('val_01')" in line


def _two_processes(root, broken):
  """An evaluation on two processes, as training calls it; the second one reads `broken`."""
  code = (
    "import sys; import jax, numpy as np\n"
    "address, number, root = sys.argv[1], int(sys.argv[2]), sys.argv[3]\n"
    "jax.distributed.initialize(address, 2, number)\n"
    "from semiseg_jax import sharding\n"
    "from semiseg_jax.data.dataset import Dataset\n"
    "from semiseg_jax.evaluation import inference, run, whole_batches\n"
    "from semiseg_jax.evaluation.windows import Segmenter\n"
    "from semiseg_jax.training import validation\n"
    "mesh, seen = sharding.make_mesh(), []\n"
    "full = jax.jit(lambda p, s, x, v: x * 1.0, out_shardings=sharding.replicated(mesh))\n"
    "whole = lambda p, s, x, v, *how: whole_batches.classified(x * 1.0, *how)\n"
    "whole = jax.jit(whole, out_shardings=sharding.replicated(mesh), static_argnums=(5, 6))\n"
    "forward = inference.Forward(inference.Scores(mesh, full, full, whole, None), {}, {})\n"
    "dataset = Dataset.open(root)\n"
    "def evaluate(state, step, again):\n"
    "  segmenter = Segmenter(forward, window=None, batch=2, num_classes=3)\n"
    "  run.evaluate_ids(segmenter, dataset, dataset.info.ids, pictures=0, title='e')\n"
    "  sys.exit('scores of a broken picture are used')\n"
    "sheltered = validation.Sheltered(evaluate, 'w')\n"
    "print(sheltered(None, 3)); print(sheltered(None, 4))\n"
    "try:\n  sheltered.check()\n"
    "except validation.EvaluationError as error:\n  print(error)\n"
  )
  with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
  pair = [
    subprocess.Popen(
      [sys.executable, "-c", code, address, str(i), str(folder)],
      cwd=REPOSITORY,
      env={**os.environ, "JAX_PLATFORMS": "cpu"},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for i, folder in enumerate((root, broken))
  ]
  return [process.communicate(timeout=120) for process in pair]
