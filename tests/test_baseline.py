"""Labels alone beside a method: both are trained, resumed, printed and drawn; and off elsewhere."""

import json
import pathlib

import pytest
from PIL import Image

from configs import cps_town, u2pl_city
from semiseg_jax import baseline, train
from semiseg_jax.config import rules, schema
from semiseg_jax.errors import ConfigError
from semiseg_jax.reporting import runs
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests import small_city
from tests.kill_runs import compare
from tests.reporting import made_run


def _part(labels, miou, unlabeled=0):
  ids = {"labeled": {"ids": labels}, "unlabeled": {"ids": unlabeled}}
  fields = {"trained_on": {"splits": ids}, "miou": miou, "pictures": 96, "checkpoint_step": 7}
  return baseline.Part(pathlib.Path(), pathlib.Path(), {**fields, "split": {"name": "val"}})


@pytest.mark.parametrize(
  "labels, said",
  [(15, "15 labels alone: 44.3; with 465 unlabeled"), (1, "1 label alone: 44.3; with 465 unlab")],
)
def test_the_answer_has_the_numbers_of_both(labels, said):
  sentence = baseline.sentence(_part(labels, 0.4432), _part(labels, 0.5071, 465))
  assert sentence.startswith(said)
  assert "pictures: 50.7 (mIoU on 96 pictures of val, 7 steps each)" in sentence


@pytest.mark.parametrize("method", ["cps_cutmix", "unimatch", "gct", "u2pl", "st_plus_plus", "cac"])
def test_labels_alone_share_all_but_the_method(method):
  config = cps_town.get_config(f"method={method}")
  alone = baseline.config_of(config)
  rules.validate(config)
  rules.validate(alone)
  assert alone.method.name == "supervised" and not alone.train.baseline
  assert alone.optimizer == config.optimizer and alone.seed == config.seed
  for key in ("root", "labeled", "crop", "scales", "val"):
    assert alone.data[key] == config.data[key]
  for key in ("steps", "batch_labeled"):
    assert alone.train[key] == config.train[key]


def test_auxiliary_logits_keep_their_weight():
  config = u2pl_city.get_config()
  config.train.baseline = True
  alone = baseline.config_of(config)
  rules.validate(alone)
  assert alone.model.deeplabv3plus.auxiliary
  assert alone.method.supervised.weight_auxiliary == 0.4


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"method__name": "supervised", "method__networks": 1}, "is that of labels alone"),
    ({"data__val": ""}, "give data.val a list"),
  ],
)
def test_what_cannot_be_compared_is_refused(changes, said):
  config = cps_town.get_config()
  config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
  with pytest.raises(ConfigError, match=f"train.baseline=True: .*{said}"):
    rules.validate(config)


def test_only_the_town_asks_for_it_and_a_run_may_ask_later():
  assert cps_town.get_config().train.baseline
  assert not cps_town.get_config("baseline=no").train.baseline
  assert not cps_town.get_config("method=supervised").train.baseline
  assert not schema.default().train.baseline and not small_city.config("data").train.baseline
  assert "train.baseline" in schema.free()


def test_the_page_of_a_run_has_labels_alone_last(tmp_path):
  made_run.write(tmp_path)
  made_run.write(tmp_path / "supervised")
  found = runs.read(tmp_path, "town", "runs/town")
  assert [(run.name, run.place) for run in found] == [
    ("town", "runs/town"),
    ("town/supervised", "runs/town/supervised"),
  ]


class _StoppedError(Exception):
  """As a kill: nothing after it is done."""


def _stop_after(monkeypatch, save):
  """The `save`-th checkpoint of both runs together is whole, and the last."""
  saves, real = [], Checkpoints.save

  def saved(self, *args, **options):
    real(self, *args, **options)
    saves.append(self.path)
    if len(saves) == save:
      self.wait()
      raise _StoppedError

  monkeypatch.setattr(Checkpoints, "save", saved)


@pytest.mark.slow
def test_stopped_in_both_parts_and_between_it_ends_with_the_same_bits(
  tmp_path, monkeypatch, capsys
):
  small_city.write(tmp_path / "data")
  changes = {"train__baseline": True, "data__crop": (24, 24), "checkpoint__every": 2}
  config = small_city.config(tmp_path / "data", "ratio=1_4,method=mean_teacher", **changes)
  whole, broken = tmp_path / "whole", tmp_path / "broken"
  train.train(config, str(whole))
  said = capsys.readouterr().out
  answer = said.rstrip().splitlines()[-1]
  assert answer.startswith("4 labels alone: ") and "; with 12 unlabeled pictures: " in answer
  assert said.index("Part 1 of 2") < said.index("Part 2 of 2") < said.index("side by side")
  for save in (1, 1, 1):  # within the first part, at its end, and within the second
    with monkeypatch.context() as patched:
      _stop_after(patched, save)
      with pytest.raises(_StoppedError):
        train.train(config, str(broken))
  train.train(config, str(broken))
  for part in ("", "supervised"):
    assert compare(whole / part, broken / part, 4) == []
  told = [(folder / "baseline.json").read_text() for folder in (whole, broken)]
  sheets = [(folder / "baseline.png").read_bytes() for folder in (whole, broken)]
  assert told[0] == told[1] and sheets[0] == sheets[1]
  scores = json.loads(told[0])
  alone = json.loads((whole / scores["labels_alone"]["result"]).read_text())
  assert f"4 labels alone: {100 * alone['miou']:.1f};" in answer
  assert scores["labels_alone"]["method"] == "supervised"
  assert scores["with_unlabeled"]["method"] == "mean_teacher"
  with Image.open(whole / "baseline.png") as sheet:
    assert sheet.width > 4 * 192  # four panels
  page = (whole / "report.html").read_text()
  assert "beside labels alone</h1>" in page and "whole/supervised</b>" in page

  written = (broken / "baseline.png").stat().st_mtime_ns
  capsys.readouterr()
  train.train(config, str(broken))  # complete: it is said again, nothing is computed
  said = capsys.readouterr().out
  assert said.count("nothing is computed again") == 2 and said.rstrip().endswith(answer)
  assert (broken / "baseline.png").stat().st_mtime_ns == written
