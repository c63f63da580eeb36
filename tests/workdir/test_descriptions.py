"""One flipped bit anywhere in a checkpoint changes nothing that a reader gets, or is an error."""

import hashlib
import json
import random

import pytest
from etils import epath

from semiseg_jax import seals
from semiseg_jax.errors import CheckpointError
from semiseg_jax.workdir import descriptions
from tests import damaged_run, flip_bits
from tests.flip_bits import Target


@pytest.fixture(scope="module")
def written(tmp_path_factory):
  return damaged_run.write(tmp_path_factory.mktemp("run"), flip_bits.META)


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
  assert {name: expected[name] for name in flip_bits.META} == json.loads(json.dumps(flip_bits.META))
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


def test_no_damage_gives_a_reader_other_numbers(written, tmp_path):
  """Whoever reads gets what was written, a run that goes on maybe the step before, or an error."""
  target = Target.of(written, "checkpoints/3", flip_bits.read_model, flip_bits.go_on)
  counts = flip_bits.attack(target, 12, random.Random(2), tmp_path)
  outcomes = {(reader, outcome) for _, _, reader, outcome in counts}
  allowed = {flip_bits.SAME, flip_bits.BEFORE, flip_bits.ERROR}
  assert {outcome for _, outcome in outcomes} <= allowed and len(outcomes) > 2
  assert ("read_model", flip_bits.BEFORE) not in outcomes
