import types

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from semiseg_jax.config import schema
from semiseg_jax.data.splits import IdList, Split
from semiseg_jax.training import summary

NETLESS = types.SimpleNamespace(streams=(), stacks={}, critics={}, methods=())


def _start(monkeypatch, capsys, *, evaluated, unlabeled=()):
  """What is printed on a dataset of three classes."""
  monkeypatch.setattr(summary.experiment, "own_optimizers", lambda method: {})
  monkeypatch.setattr(summary.experiment, "rates", lambda method: ())
  monkeypatch.setattr(summary.optimizers, "describe", lambda *arguments: "sgd")
  info = types.SimpleNamespace(name="d", classes=("sky", "car", "dog"))
  val = evaluated and IdList("val", tuple(map(str, range(evaluated))))
  split = Split(IdList("labeled", ("a",)), IdList("none", (), notes=unlabeled))
  mesh = Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), ("replica", "data"))
  dataset = types.SimpleNamespace(info=info, root="/d")
  summary.print_start(schema.default(), dataset, split, val, NETLESS, mesh, "by nothing")
  return [line for line in capsys.readouterr().out.splitlines() if "NOTE" in line]


@pytest.mark.parametrize("evaluated,expected", [(10, 0), (None, 0), (9, 1)])
def test_few_evaluated_pictures_are_said_at_the_start(monkeypatch, capsys, evaluated, expected):
  notes = _start(monkeypatch, capsys, evaluated=evaluated)
  assert len(notes) == expected
  assert all("only 9 pictures are evaluated" in note for note in notes)


@pytest.mark.parametrize(
  "changed, expected",
  [
    ({"train.steps": 2999}, 1),
    ({"train.steps": 3000}, 0),
    ({"train.steps": 2999, "train.baseline": True}, 0),
    ({"train.steps": 2999, "method.name": "supervised"}, 0),
  ],
)
def test_few_steps_of_a_method_that_makes_labels_are_told(changed, expected):
  config = schema.default()
  config.update_from_flattened_dict(changed)
  split = Split(IdList("labeled", ("a",)), IdList("rest", ("b",)))
  notes = summary._few_steps(config, split)
  assert len(notes) == expected and all("below 3000 steps" in note for note in notes)
  assert not summary._few_steps(config, Split(IdList("labeled", ("a",)), IdList("none", ())))


def test_notes_on_lists_are_said_at_the_start(monkeypatch, capsys):
  notes = _start(monkeypatch, capsys, evaluated=10, unlabeled=("1 picture is left out",))
  assert notes == ["  NOTE       1 picture is left out"]
