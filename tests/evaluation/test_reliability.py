"""The agreement of checkpoints, and the ranking by it, against loops in plain Python."""

import types

import numpy as np
import pytest

from semiseg_jax.evaluation import reliability
from tests.evaluation.ranking_by_hand import agreement, ranked

CLASSES = 5


def _maps(seed, count, classes):
  """Maps that agree on a part of the pixels and lack some classes."""
  rng = np.random.default_rng(seed)
  last = rng.choice(classes, (7, 9)).astype(np.uint8)
  maps = []
  for k in range(count - 1):
    other = rng.choice(classes[: 1 + k], (7, 9)).astype(np.uint8)
    maps.append(np.where(rng.random((7, 9)) < 0.4, last, other))
  return [*maps, last]


@pytest.mark.parametrize("count", [2, 3, 5])
def test_agreement(count):
  for seed, classes in enumerate(([0, 1, 2, 3, 4], [0, 3], [2, 4, 1])):
    maps = _maps(seed, count, classes)
    expected = agreement(maps, CLASSES)
    assert 0.05 < expected < 0.95
    np.testing.assert_allclose(reliability.agreement(maps, CLASSES), expected, rtol=1e-12)


def test_a_class_of_one_map_alone_counts_as_zero_and_one_of_neither_not_at_all():
  first, last = np.zeros((2, 4), np.uint8), np.zeros((2, 4), np.uint8)
  assert reliability.agreement([first, last], CLASSES) == 1
  first[0, 0] = 3  # class 0: 7 / 8; class 3: 0 / 1
  assert reliability.agreement([first, last], CLASSES) == (7 / 8 + 0) / 2


@pytest.mark.parametrize("share", [0.5, 0.3, 0.99, 0.01])
@pytest.mark.parametrize("pictures", [1, 2, 7, 10])
def test_the_most_reliable(share, pictures):
  rng = np.random.default_rng(pictures)
  scores = {f"p{i}": float(s) for i, s in enumerate(rng.integers(0, 4, pictures) / 4)}
  assert reliability.most_reliable(scores, share) == ranked(scores, share)


def test_half_of_an_odd_number_is_rounded_down_and_equal_ones_go_by_their_order():
  scores = {"d": 0.5, "a": 0.9, "c": 0.5, "b": 0.5, "e": 0.1}
  assert reliability.most_reliable(scores, 0.5) == ("d", "a")


def test_what_was_ranked_is_read_again_unless_it_was_damaged(tmp_path, monkeypatch):
  maps = {"p0": _maps(0, 2, [0, 1]), "p1": _maps(1, 2, [1, 2])}
  calls = []

  def labels(stage, steps, how, pool, ids):
    calls.append(ids)
    return iter([maps[id_] for id_ in ids])

  monkeypatch.setattr(reliability.inference, "find_checkpoint", lambda *a: (1, {"networks": 3}))
  monkeypatch.setattr(reliability, "_labels", labels)
  config = types.SimpleNamespace(train=types.SimpleNamespace(steps=4))
  how = types.SimpleNamespace(as_dict=lambda: {"mode": "whole"})
  pool = types.SimpleNamespace(info=types.SimpleNamespace(classes=range(CLASSES)))
  ranked = lambda: reliability.of_pictures(config, "s", tmp_path, how, pool, ["p0", "p1"], 2)
  expected = {id_: agreement(each, CLASSES) for id_, each in maps.items()}
  for _ in range(2):
    assert ranked() == pytest.approx(expected, rel=1e-12)
  assert len(calls) == 1
  file = tmp_path / reliability.FILE
  text = file.read_text()
  number = repr(ranked()["p0"])
  file.write_text(text.replace(number, number[:3] + str((int(number[3]) + 1) % 10) + number[4:]))
  assert ranked() == pytest.approx(expected, rel=1e-12) and len(calls) == 2
