import types

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from semiseg_jax.config import schema
from semiseg_jax.data.splits import IdList, Split
from semiseg_jax.training import summary

NETLESS = types.SimpleNamespace(streams=(), stacks={}, critics={}, methods=())


def _start(monkeypatch, capsys, *, labeled, pixels, evaluated, list_pixels, unlabeled=()):
  """What is printed on a dataset of three classes."""
  monkeypatch.setattr(summary.experiment, "own_optimizers", lambda method: {})
  monkeypatch.setattr(summary.experiment, "rates", lambda method: ())
  monkeypatch.setattr(summary.optimizers, "describe", lambda *arguments: "sgd")
  info = types.SimpleNamespace(
    name="d", classes=("sky", "car", "dog"), class_pixels=pixels, list_pixels=list_pixels
  )
  val = evaluated and IdList("val", tuple(map(str, range(evaluated))))
  split = Split(IdList(labeled, ("a",)), IdList("none", (), notes=unlabeled))
  mesh = Mesh(np.array(jax.local_devices()[:1]).reshape(1, 1), ("replica", "data"))
  dataset = types.SimpleNamespace(info=info, root="/d")
  summary.print_start(schema.default(), dataset, split, val, NETLESS, mesh, "by nothing")
  return [line for line in capsys.readouterr().out.splitlines() if "NOTE" in line]


@pytest.mark.parametrize(
  "labeled,pixels,evaluated,expected",
  [
    ("labeled", (1, 2, 3, 0), 10, []),
    ("labeled", (1, 2, 3, 0), None, []),
    ("labeled", (), 10, []),
    ("labeled", (1, 2, 0, 9), 9, ["picture shows dog", "only 9 pictures are evaluated"]),
    ("few", (1, 2, 3, 0), 10, ["picture shows car, dog"]),
  ],
)
def test_doubts_are_said_at_the_start(monkeypatch, capsys, labeled, pixels, evaluated, expected):
  notes = _start(
    monkeypatch,
    capsys,
    labeled=labeled,
    pixels=pixels,
    evaluated=evaluated,
    list_pixels={"few": (5, 0, 0, 0)},
  )
  assert len(notes) == len(expected)
  assert all(text in note for text, note in zip(expected, notes))


def test_notes_on_lists_are_said_at_the_start(monkeypatch, capsys):
  given = {"labeled": "labeled", "pixels": (1, 2, 3, 0), "evaluated": 10, "list_pixels": {}}
  notes = _start(monkeypatch, capsys, **given, unlabeled=("1 picture is left out",))
  assert notes == ["  NOTE       1 picture is left out"]
