"""Checkpoints: what is damaged is said, passed over, and never deleted."""

import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semiseg_jax import sharding
from semiseg_jax.errors import CheckpointError
from semiseg_jax.state import TrainState
from semiseg_jax.workdir import checkpoints
from semiseg_jax.workdir.checkpoints import Checkpoints, checksum, spaced_steps


def _state(step, shift=0.0):
  rng = np.random.default_rng(0)
  params = {"networks": {"conv": {"kernel": rng.normal(size=(2, 40, 50)).astype(np.float32)}}}
  stats = {"networks": {"bn": {"mean": rng.normal(size=(2, 50)).astype(np.float32) + shift}}}
  trace = jax.tree.map(np.zeros_like, params)
  state = TrainState(np.int32(step), params, stats, {"part": {"queue": trace}}, (trace,))
  return jax.tree.map(jnp.asarray, state)


def _meta():
  return {"config": {}, "dataset": {}, "stacks": {"networks": 2}}


@pytest.fixture
def three(tmp_path):
  saved = Checkpoints(tmp_path, keep=3)
  for step, miou in ((1, 0.9), (2, None), (3, 0.1)):
    saved.save(_state(step, shift=step), _meta(), miou)
  saved.close()
  return tmp_path


def _equal(a, b):
  return all((np.asarray(x) == np.asarray(y)).all() for x, y in zip(*map(jax.tree.leaves, (a, b))))


def test_round_trip(three):
  restored = Checkpoints(three).restore(_state(0))
  assert _equal(restored, _state(3, shift=3)) and int(restored.step) == 3


def test_keeps_the_newest_and_the_best(tmp_path):
  saved = Checkpoints(tmp_path, keep=2)
  for step, miou in ((1, 0.5), (2, 0.9), (3, None), (4, 0.2), (5, None)):
    saved.save(_state(step), _meta(), miou)
  saved.wait()
  assert saved.steps() == [2, 4, 5] and saved.best_step() == 2
  saved.close()


@pytest.mark.parametrize(
  "steps, count, expected", [(9, 3, (3, 6, 9)), (10, 3, (3, 6, 10)), (7, 1, (7,)), (7, 0, ())]
)
def test_spaced_steps(steps, count, expected):
  assert spaced_steps(steps, count) == expected


def test_keeps_chosen_steps_whatever_is_newer_or_better(tmp_path):
  for first in (1, 4):  # begun again in between
    saved = Checkpoints(tmp_path, keep=1, always=(2, 5, 9))
    for step in range(first, first + 3):
      saved.save(_state(step), _meta(), 0.1 * step)
    saved.wait()
    assert saved.steps() == {1: [2, 3], 4: [2, 5, 6]}[first]
    saved.close()


def test_one_flipped_bit_is_found():
  tree = _state(0).params
  bits = np.asarray(tree["networks"]["conv"]["kernel"]).view(np.uint32).copy()
  bits[1, 7, 9] ^= 1 << 20
  other = {"networks": {"conv": {"kernel": jnp.asarray(bits.view(np.float32))}}}
  assert checksum(tree) != checksum(other)


def test_devices_and_host_find_the_same_sum(monkeypatch):
  rng = np.random.default_rng(0)
  values = rng.normal(size=(3, 5)) * 1e3
  tree = [jnp.asarray(values, dtype) for dtype in ("float32", "bfloat16", "int32", "uint8", "bool")]
  by_hand = sum(int(v) for v in np.asarray(tree[0]).view(np.uint32).ravel()) % 2**32
  found = checksum(tree), checksum(tree[:1])
  monkeypatch.setattr(sharding, "in_host_memory", lambda tree: False)
  assert found == (checksum(tree), by_hand)


@pytest.mark.parametrize("damage", ["flipped", "missing", "empty"])
def test_falls_back_to_the_one_before_and_says_so(three, damage, caplog):
  newest = three / "checkpoints" / "3"
  if damage == "flipped":
    data = [p for p in (newest / "model").rglob("*") if p.is_file() and "/d/" in str(p)]
    largest = max(data, key=lambda p: p.stat().st_size)
    content = bytearray(largest.read_bytes())
    for i in range(len(content) // 2, len(content) // 2 + 64):
      content[i] ^= 0xFF
    largest.write_bytes(content)
  elif damage == "missing":
    shutil.rmtree(newest / "train")
  else:
    shutil.rmtree(newest)
    newest.mkdir()
  with caplog.at_level(logging.ERROR):
    saved = Checkpoints(three)
    restored = saved.restore(_state(0))
  assert _equal(restored, _state(2, shift=2))
  assert "checkpoints/3" in caplog.text and "Moved the unusable checkpoint" in caplog.text
  assert len(list((three / "unusable").glob("3-*"))) == 1
  # What is trained again is saved again.
  saved.save(_state(3, shift=7), _meta(), None)
  saved.close()
  assert _equal(Checkpoints(three).restore(_state(0)), _state(3, shift=7))


def test_what_one_of_several_processes_cannot_read_no_one_takes(three, monkeypatch, caplog):
  answers = iter([{}, {1: "ValueError: a chunk is gone"}, *[{}] * 3])
  monkeypatch.setattr(checkpoints.peers, "failures", lambda wrong: next(answers))
  saved = Checkpoints(three)
  assert int(saved.restore(_state(0)).step) == 2
  saved.close()
  assert "step 3: of process 1, ValueError: a chunk is gone" in caplog.text
  assert [path.name.split("-")[0] for path in (three / "unusable").iterdir()] == ["3"]


def test_each_of_several_processes_reads_by_itself(three, monkeypatch):
  whole = Checkpoints(three)
  expected = whole.restore(_state(0))
  monkeypatch.setattr(whole, "_several", True)
  monkeypatch.setattr(whole._manager, "restore", pytest.fail)  # it waits for the others
  assert _equal(whole.restore(_state(0)), expected)
  whole.close()


def _as_before(folder):
  """The description as format 2 had it: without step, score and seal."""
  file = folder / "meta" / "metadata"
  fields = json.loads(file.read_text()) | {"format": 2}
  for name in ("step", "miou", "seal"):
    del fields[name]
  file.write_text(json.dumps(fields))


DAMAGES = [b"", b'{"mio', b"\xff\x00", b"[]", b'{"other": 0.5}', b'{"miou": NaN}', b'{"miou": 1.5}']


@pytest.mark.parametrize("content", [*DAMAGES[1:3], b'{"miou": 0.05}', None])
def test_a_damaged_score_is_that_of_the_description(three, content, caplog):
  score = three / "checkpoints" / "1" / "metrics" / "metrics"
  if content is None:
    shutil.rmtree(score.parent)
  else:
    score.write_bytes(content)
  with caplog.at_level(logging.ERROR):
    saved = Checkpoints(three, keep=2)
  assert (saved.steps(), saved.best_step()) == ([1, 2, 3], 1)
  assert "checkpoints/1: its score beside the description is damaged" in caplog.text
  saved.save(_state(4), _meta(), float("nan"))  # nothing to compare with: not evaluated
  saved.wait()
  assert (saved.steps(), saved.best_step()) == ([1, 3, 4], 1)
  saved.close()


def test_a_damaged_score_of_an_earlier_version_costs_the_score_and_no_checkpoint(three, caplog):
  folder = three / "checkpoints" / "1"
  _as_before(folder)
  reader = Checkpoints(three, read_only=True)
  assert reader.best_step() == 1
  for content in DAMAGES:
    (folder / "metrics" / "metrics").write_bytes(content)
    reader = Checkpoints(three, read_only=True)
    with pytest.raises(CheckpointError, match="best is not known: step 1: its score .*2, 3"):
      reader.best_step()
    reader.close()
  with caplog.at_level(logging.ERROR):
    saved = Checkpoints(three, keep=2)
  assert "checkpoints/1: its score is damaged; the step counts as not evaluated" in caplog.text
  assert _equal(saved.restore(_state(0)), _state(3, shift=3))
  saved.save(_state(4), _meta(), None)
  saved.wait()
  assert saved.steps() == [3, 4]
  saved.close()


def test_a_save_that_cannot_be_written_is_one_error(three, monkeypatch):
  """Orbax's own threads would wait for minutes for a folder that cannot be made."""
  saved = Checkpoints(three)

  def full(*args, **kwargs):
    raise OSError(28, "No space left on device")

  for name in ("save", "wait_until_finished"):
    monkeypatch.setattr(saved._manager, name, full)
  message = "cannot be written to (.|\n)*No space left(.|\n)* MB free"
  with pytest.raises(CheckpointError, match=message):
    saved.save(_state(4), _meta(), None)
  with pytest.raises(CheckpointError, match=message):
    saved.wait()


@pytest.mark.parametrize("damage", ["empty", "cut", "other", "a part", "gone", "no item", "seal"])
def test_a_damaged_meta_is_named(three, damage):
  file = three / "checkpoints" / "3" / "meta" / "metadata"
  if damage in ("gone", "no item"):
    shutil.rmtree(file.parent if damage == "gone" else file.parents[1])
    file.parents[1].mkdir(exist_ok=True)
  else:
    whole = file.read_bytes()
    less, lost = whole.replace(b"checksums", b"sums"), whole.replace(b'"seal"', b'"sea"')
    damages = {"empty": b"", "cut": whole[:-9], "other": b"{}", "a part": less, "seal": lost}
    file.write_bytes(damages[damage])
  reader = Checkpoints(three, read_only=True)
  whole = r"Step 2 is whole: take it with --step=2, or move the damaged folder away"
  with pytest.raises(CheckpointError, match=rf"checkpoints/3 is damaged: (.|\n)*{whole}"):
    reader.meta(3)
  assert reader.newest() == (2, reader.meta(2))
  reader.close()
  assert _equal(Checkpoints(three).restore(_state(0)), _state(2, shift=2))


def test_a_reader_looks_for_a_step_that_is_whole(three):
  for step, file in ((3, "meta/metadata"), (2, "model/_METADATA")):
    (three / "checkpoints" / str(step) / file).write_text("{}")
  reader = Checkpoints(three, read_only=True)
  with pytest.raises(CheckpointError, match="checkpoints/3 is damaged: .* Step 1 is whole"):
    reader.meta(3)
  (three / "checkpoints/1/meta/metadata").write_text("{}")
  with pytest.raises(CheckpointError, match="checkpoints/3 is damaged: .* No other step"):
    reader.meta(3)
  reader.close()


@pytest.mark.parametrize("sealed", [True, False])
def test_the_state_is_at_the_step_of_its_folder(three, sealed, caplog):
  shutil.copytree(three / "checkpoints" / "2", three / "checkpoints" / "7")
  if not sealed:
    _as_before(three / "checkpoints" / "7")
  else:
    reader = Checkpoints(three, read_only=True)
    with pytest.raises(CheckpointError, match="7 is damaged: .* the step is 2: the folder was"):
      reader.meta(7)
    reader.close()
  with caplog.at_level(logging.ERROR):
    assert _equal(Checkpoints(three).restore(_state(0)), _state(3, shift=3))
  assert "checkpoints/7 cannot be used. step 7" in caplog.text
  assert len(list((three / "unusable").glob("7-*"))) == 1


def test_a_state_at_another_step_than_the_loop_is_not_saved(three):
  saved = Checkpoints(three)
  with pytest.raises(CheckpointError, match="After step 6 the state is at step 4: 2 updates"):
    saved.save(_state(4), _meta(), None, step=6)
  saved.save(_state(4), _meta(), None, step=4)
  saved.wait()
  assert saved.steps() == [1, 2, 3, 4]
  saved.close()


def test_what_no_run_wrote_is_named_and_left_alone(three, caplog):
  root = three / "checkpoints"
  shutil.copytree(root / "3", root / "3_old")
  (root / "notes.txt").write_text("mine")
  (root / "2" / "thesis.txt").write_text("years of work")
  with caplog.at_level(logging.WARNING):
    saved = Checkpoints(three, keep=2)
  assert "is left alone: 2/thesis.txt, 3_old, notes.txt." in caplog.text
  assert saved.steps() == [1, 2, 3] and (root / "3_old" / "meta").is_dir()


def test_a_bug_in_what_checks_a_run_is_no_damage(three):
  def check(meta):
    raise KeyError("a bug")

  with pytest.raises(KeyError, match="a bug"):
    Checkpoints(three).restore(_state(0), check)
  assert not (three / "unusable").exists()


def test_a_save_that_does_not_happen_is_an_error(three):
  saved = Checkpoints(three)
  with pytest.raises(CheckpointError, match=r"Step 2 was not saved(.|\n)*\[1, 2, 3\]"):
    saved.save(_state(2), _meta(), None)


def test_nothing_readable_is_an_error_that_names_all(three):
  for step in (1, 2, 3):
    shutil.rmtree(three / "checkpoints" / str(step) / "model")
  with pytest.raises(CheckpointError, match="step 3(.|\n)*step 2(.|\n)*step 1"):
    Checkpoints(three).restore(_state(0))


def test_other_shapes_are_refused(three):
  other = _state(0)
  other.params["networks"]["conv"]["kernel"] = jnp.zeros((3, 40, 50))
  with pytest.raises(CheckpointError, match="Use the config of that run"):
    Checkpoints(three).restore(other)


def test_an_empty_workdir_restores_nothing(tmp_path):
  assert Checkpoints(tmp_path).restore(_state(0)) is None
  with pytest.raises(CheckpointError, match="No checkpoints"):
    Checkpoints(tmp_path / "elsewhere", read_only=True)


@pytest.mark.parametrize("text", ["3", '{"metrics": 3}', '{"commit_timestamp_nsecs": 1e99}'])
def test_metadata_of_a_step_that_orbax_cannot_read_hides_no_other(three, text, caplog):
  (three / "checkpoints" / "3" / "_CHECKPOINT_METADATA").write_text(text)
  with pytest.raises(CheckpointError, match="checkpoints/3 is damaged: its metadata.*Move it away"):
    Checkpoints(three, read_only=True)
  assert (three / "checkpoints" / "3").is_dir()
  restored = Checkpoints(three).restore(_state(0))
  assert int(restored.step) == 2 and "Moved the unusable checkpoint of step 3" in caplog.text
  assert [f.name[:2] for f in (three / "unusable").iterdir()] == ["3-"]
