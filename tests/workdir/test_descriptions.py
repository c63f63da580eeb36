"""One flipped bit anywhere in a checkpoint changes nothing that a reader gets, or is an error."""

import hashlib
import json
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from semiseg_jax import seals
from semiseg_jax.errors import CheckpointError
from semiseg_jax.state import TrainState
from semiseg_jax.workdir import descriptions
from semiseg_jax.workdir.checkpoints import Checkpoints

META = {
  "config": {"data": {"mean": [0.485, 0.456], "crop": [32, 32]}, "optimizer": {"rate": 0.01}},
  "dataset": {"name": "s\u00fc\u00df", "classes": ["road", "sky", "car"], "channels": 3},
  "nets": {"networks": [{"stack": "networks", "copies": 2, "shift": [], "scale": [2.0, 1e-3]}]},
  "stacks": {"networks": 2},
}


def _state(step):
  rng = np.random.default_rng(step)
  params = {"networks": {"conv": {"kernel": rng.normal(size=(2, 3, 4)).astype(np.float32)}}}
  stats = {"networks": {"bn": {"mean": rng.normal(size=(2, 5)).astype(np.float32)}}}
  state = TrainState(np.int32(step), params, stats, {}, (params["networks"]["conv"],))
  return jax.tree.map(jnp.asarray, state)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  saved = Checkpoints(folder)
  for step, miou in ((2, 0.25), (3, 0.5)):
    saved.save(_state(step), META, miou)
  saved.close()
  return folder


def test_the_seal_is_that_of_the_canonical_form():
  fields = {"b": [1, 2.5, None], "a": {"z": "\u00e4", "y": True}}
  canonical = b'{"a":{"y":true,"z":"\\u00e4"},"b":[1,2.5,null]}'
  assert seals.sealed(fields)["seal"] == hashlib.sha256(canonical).hexdigest()
  assert seals.problem(seals.sealed(seals.sealed(fields)), required=True) == ""
  assert seals.problem(fields) == "" and seals.problem(fields, required=True) == seals.NONE


def test_every_bit_of_a_description_is_covered(written, tmp_path):
  source = written / "checkpoints" / "3" / "meta" / "metadata"
  content, folder = source.read_bytes(), epath.Path(tmp_path) / "3"
  (folder / "meta").mkdir(parents=True)
  copy = tmp_path / "3" / "meta" / "metadata"
  copy.write_bytes(content)
  expected = descriptions.read(folder)
  assert (expected["step"], expected["miou"], expected["format"]) == (3, 0.5, 3)
  assert {name: expected[name] for name in META} == json.loads(json.dumps(META))
  draw, held = random.Random(0), 0
  for place in draw.sample(range(len(content)), 400):
    damaged = bytearray(content)
    damaged[place] ^= 1 << draw.randrange(8)
    copy.write_bytes(damaged)
    try:
      assert descriptions.read(folder) == expected, place  # a letter of \\u00fc may be a capital
    except CheckpointError:
      held += 1
  assert held > 395


def test_no_flipped_bit_gives_a_reader_other_numbers(written, tmp_path):
  """Readers of the model, and a run that goes on: those of step 3, of step 2, or an error."""
  shapes = {
    "networks": jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
      (_state(0).params["networks"], _state(0).stats["networks"]),
    )
  }
  files = [p.relative_to(written) for p in sorted(written.glob("checkpoints/3/**/*"))]
  files = [p for p in files if (written / p).is_file()]
  draw, held = random.Random(0), {"read": 0, "resumed": 0}
  for number, file in enumerate(draw.sample(files, 14)):
    copy = shutil.copytree(written, tmp_path / str(number))
    content = bytearray((copy / file).read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    (copy / file).write_bytes(content)
    try:
      reader = Checkpoints(copy, read_only=True)
      assert reader.best_step() == 3
      assert {name: reader.meta(3)[name] for name in META} == json.loads(json.dumps(META))
      _assert_equal(reader.restore_model(3, shapes), (_state(3).params, _state(3).stats))
    except CheckpointError as error:
      assert "Step 2 is whole" in str(error) or "best is not known" in str(error)
      held["read"] += 1
    saved = Checkpoints(copy)
    state = saved.restore(_state(0))
    saved.close()
    assert int(state.step) in (2, 3)
    _assert_equal(state, _state(int(state.step)))
    held["resumed"] += int(state.step) == 2
  assert held["read"] and held["resumed"], held


def _assert_equal(found, expected):
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
