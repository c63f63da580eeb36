"""An evaluation that raises costs no run, and lists without labels are refused before one."""

import types

import jax
import numpy as np
import pytest

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import DataError, EvaluationError
from semiseg_jax.labels import IGNORE
from semiseg_jax.training import run, shown_classes, validation

CLASSES = ("sky", "car", "dog")


def _raising(*errors):
  """An evaluation that raises these, one after the other; None: it succeeds."""
  left = list(errors)

  def evaluate(state, step, again=False):
    error = left.pop(0)
    if error:
      raise error
    return validation.Scored(0.5, "table")

  return validation.Sheltered(evaluate, "w")


@pytest.mark.parametrize(
  "error, said",
  [
    (DataError("record 3 is damaged; prepare again"), "record 3 is damaged"),
    (MemoryError(), "out of memory"),
    (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 9 GB"), "out of memory.*9 GB"),
    (OSError(5, "Input/output error"), "OSError: .*Input/output error"),
    (ZeroDivisionError("a bug"), "ZeroDivisionError: a bug"),
  ],
)
def test_what_is_raised_is_said_and_ends_the_run_at_its_end(caplog, error, said):
  evaluate = _raising(error)
  assert evaluate(None, 3) is None
  assert "Step 3: the evaluation failed" in caplog.text
  assert ("Traceback" in caplog.text) == isinstance(error, ZeroDivisionError)
  with pytest.raises(EvaluationError, match=f"step 3 is trained and saved.*{said}.*evaluates"):
    evaluate.check()


def test_an_error_is_said_once_and_a_later_success_counts(caplog):
  evaluate = _raising(KeyError("odd"), KeyError("odd"), None)
  evaluate(None, 1), evaluate(None, 2)
  assert caplog.text.count("odd") == 2  # the line, and its traceback
  assert "Step 2: the evaluation failed (as before)" in caplog.text
  assert evaluate(None, 3).miou == 0.5
  evaluate.check()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupt_goes_out(error):
  with pytest.raises(type(error)):
    _raising(error)(None, 1)


def test_a_peer_that_is_gone_goes_out(monkeypatch):
  monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
  with pytest.raises(ValueError, match="Gloo"):
    _raising(ValueError("Gloo AllGather failed: Connection closed by peer"))(None, 1)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
  """Pictures of one class each, two ignored ones, and one without a label."""
  root = tmp_path_factory.mktemp("data") / "d"
  with DatasetWriter(root, name="d", classes=CLASSES, colors=((0, 0, 0),) * 3) as writer:
    for name, value in {"a": 0, "b": 1, "x": IGNORE, "y": IGNORE}.items():
      label = np.full((4, 4), value, np.uint8)
      writer.add(name, image=np.zeros((4, 4, 3), np.uint8), label=label)
    writer.add("u", image=np.zeros((4, 4, 3), np.uint8), label=None)
    writer.lists(train=["a", "b", "x", "y", "u"], labeled=["a"], val=["b"], void=["x", "y"])
  return Dataset.open(root)


def _lists(dataset, tmp_path, **given):
  """The lists of a run; a tuple of ids becomes a text file."""
  data = {"labeled": "labeled", "unlabeled": "rest", "train": "train", "val": "val", "sources": ()}
  for use, ids in given.items():
    if isinstance(ids, tuple):
      (tmp_path / f"{use}.txt").write_text("".join(id_ + "\n" for id_ in ids))
      ids = str(tmp_path / f"{use}.txt")
    data[use] = ids
  config = types.SimpleNamespace(data=types.SimpleNamespace(**data))
  return run.lists(config, dataset, dataset, {"labeled"})


@pytest.mark.parametrize(
  "given, said",
  [
    ({"val": "void"}, "data.val: no pixel of list 'void'"),
    ({"val": ("x",)}, "data.val: no pixel of list '.*val.txt'"),
    ({"labeled": "void"}, "data.labeled: no pixel of list 'void'"),
    ({"labeled": ("x", "y")}, "data.labeled: no pixel of list '.*labeled.txt'"),
    ({"val": ("b", "u")}, "has no label, the first is 'u'"),
  ],
)
def test_lists_without_a_labeled_pixel_are_refused(dataset, tmp_path, given, said):
  with pytest.raises(DataError, match=said):
    _lists(dataset, tmp_path, **given)


@pytest.mark.parametrize("given", [{}, {"labeled": ("x", "a"), "val": ("b", "y")}])
def test_missing_classes_are_noted(dataset, tmp_path, given):
  split, val = _lists(dataset, tmp_path, **given)
  assert split.labeled.notes == ("no labeled picture shows car, dog: no network can learn it",)
  assert "no evaluated picture shows sky, dog:" in val.notes[0]


def test_labels_are_read_until_every_class_was_seen(dataset, tmp_path, monkeypatch):
  read = []
  label = shown_classes.class_counts.label
  count = lambda pool, index: read.append(index) or label(pool, index)
  monkeypatch.setattr(shown_classes.class_counts, "label", count)
  _lists(dataset, tmp_path)
  assert not read  # what is stored was counted
  shown_classes.check_labeled(dataset, shown_classes.IdList("f", ("a", "b") + ("x",) * 90))
  assert len(read) < 40
