"""The command on a workdir with a real checkpoint of two small networks; what they say is made."""

import csv
import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import logging
from PIL import Image

from semiseg_jax import sharding, suggest
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.evaluation import inference, result_files
from semiseg_jax.evaluation.windows import Segmenter
from semiseg_jax.suggesting import networks
from semiseg_jax.training import experiment
from semiseg_jax.workdir.checkpoints import Checkpoints
from tests.test_evaluate_predict import CLASSES, COLORS, picture, save, small_config


@pytest.fixture(autouse=True)
def verbosity():
  before = logging.get_verbosity()
  yield
  logging.set_verbosity(before)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  with DatasetWriter(folder / "noise", name="noise", classes=CLASSES, colors=COLORS) as writer:
    for i in range(5):
      label = (picture((40, 40), 50 + i, 1)[..., 0] // 90).astype(np.uint8)
      writer.add(f"n{i}", image=picture((40, 40), i), label=label)
    writer.lists(train=[f"n{i}" for i in range(5)], few=["n0", "n1"])
  config = small_config(folder / "noise")
  config.data.labeled, config.data.unlabeled = "few", "rest"
  method = experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3)
  state = experiment.initial_state(config, method, experiment.make_optimizer(config, method))
  state = dataclasses.replace(state, params=jax.tree.map(lambda x: 2 * x, state.params))
  info = Dataset.open(folder / "noise").info
  about = {k: getattr(info, k) for k in ("name", "classes", "colors", "channels", "fingerprint")}
  saved = Checkpoints(folder / "work")
  nets = experiment.describe_nets(method, method.evaluated)
  saved.save(
    state, {"config": json.loads(config.to_json_best_effort()), "dataset": about, **nets}, 0
  )
  saved.close()
  return str(folder / "work")


def _rows(file):
  with open(file, newline="") as text:
    return list(csv.DictReader(text))


def _made(trained, how):
  """Networks without any network: the doubt is the mean color."""
  one = lambda x: x[..., :1].astype(np.float32) / 255 * (1, 1, 1, 0) + (0, 0, 0, 1)
  doubt = Segmenter(lambda x, _: jnp.asarray(one(x), jnp.float32), window=None, num_classes=4,
                    probabilities=True)  # fmt: skip
  certain = Segmenter(lambda x, _: jnp.full((*x.shape[:3], 3), 1 / 3), window=None, num_classes=3,
                      probabilities=True)  # fmt: skip
  features = networks.Features(lambda x: x.mean((1, 2), dtype=np.float32), (40, 40))
  return networks.Networks(doubt, certain, features, trained.n, CLASSES, COLORS)


def test_a_folder_with_a_copy_and_a_broken_picture(workdir, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(networks, "of_run", _made)
  images, out = tmp_path / "in", tmp_path / "out"
  colors = {"a": picture((40, 40), 11), "b": picture((40, 40), 12), "c": picture((40, 40), 13)}
  for name, color in {**colors, "copy": colors["a"]}.items():
    save(images / f"{name}.png", color)
  (images / "broken.png").write_bytes(b"no picture")
  flags = [
    f"--workdir={workdir}",
    f"--images={images}",
    f"--out={out}",
    "--number=4",
    "--mode=whole",
  ]
  with pytest.raises(SystemExit, match="4 of 5 ranked, 1 picture.*\n.*broken.png"):
    suggest.main(flags)
  said = capsys.readouterr().out
  assert "3 of 4 pictures to label next, by combined" in said and "4 were asked for" in said
  names = (out / "suggested.txt").read_text().splitlines()
  rows = [row["id"] for row in _rows(out / "suggested.csv")]
  assert rows[:3] == names and len(rows) == 4
  assert sorted(pathlib.Path(name).stem.replace("copy", "a") for name in names) == ["a", "b", "c"]
  assert {row["id"] for row in _rows(out / "suspicious.csv")} <= {"n0", "n1"}
  assert Image.open(out / "sheet.png").size[0] > 1700


def test_the_unlabeled_list_of_the_run(workdir, tmp_path, monkeypatch):
  monkeypatch.setattr(networks, "of_run", _made)
  found = suggest.suggest(workdir, str(tmp_path / "out"), number=2, by="disagreement")
  assert found.scores.ids == ("n2", "n3", "n4") and not found.failures
  top = found.scores.of("disagreement").argsort()[::-1][:2]
  names = (tmp_path / "out" / "suggested.txt").read_text().split()
  assert names == [found.scores.ids[i] for i in top]
  about = result_files.read(tmp_path / "out" / "suggested.json")
  assert (about["by"], about["suggested"], about["protocol"]["network"]) == (
    "disagreement",
    2,
    "mean",
  )
  assert [about["split"][k]["ids"] for k in ("pictures", "labeled")] == [3, 2]
  found = suggest.suggest(workdir, str(tmp_path / "out"), unlabeled="all")  # labeled ones included
  assert found.scores.ids == ("n2", "n3", "n4")


@pytest.mark.parametrize(
  "flags, message",
  [
    (["--number=0"], "--number=0: at least one"),
    (["--labeled=none"], "name the pictures to choose from with --images"),
    (["--images=.", "--unlabeled=rest"], "give one"),
    (["--gate=runs/g"], "--gate"),
    (["--network=7"], "0 to 1, or 'mean'"),
    (["--unlabeled=few"], "holds all of 'few'"),
    (["--images=absent"], "absent is not a folder"),
  ],
)
def test_what_cannot_be_done_is_one_message(workdir, tmp_path, flags, message):
  with pytest.raises(SystemExit, match=f"suggest: .*{message}"):
    suggest.main([f"--workdir={workdir}", f"--out={tmp_path}", *flags])


def test_one_network_does_not_disagree_with_itself(workdir, tmp_path, monkeypatch, capsys):
  load = inference.load_trained

  def alone(*given):
    trained = load(*given)
    return dataclasses.replace(trained, members=(trained.network(0)[0],))

  monkeypatch.setattr(inference, "load_trained", alone)
  monkeypatch.setattr(networks, "of_run", _made)
  with pytest.raises(SystemExit, match="one network does not disagree with itself; take --by=ent"):
    suggest.main([f"--workdir={workdir}", f"--out={tmp_path}", "--by=disagreement"])
  found = suggest.suggest(workdir, str(tmp_path), number=2)
  assert "NOTE: one network does not disagree with itself" in capsys.readouterr().out
  assert [one.reason.count("disagreement") for one in found.suggestions] == [0, 0]
  assert {row["disagreement"] for row in _rows(tmp_path / "suggested.csv")} == {""}


def test_a_place_that_cannot_be_written_to_is_told_before_the_work(workdir, tmp_path, monkeypatch):
  monkeypatch.setattr(networks, "of_run", lambda *_: None)  # nothing works with it
  (tmp_path / "out").write_text("a file, where a folder is needed")
  with pytest.raises(SystemExit, match="suggest: .*out: File exists; correct the path"):
    suggest.main([f"--workdir={workdir}", f"--out={tmp_path / 'out'}"])


def test_results_among_the_pictures_are_refused(tmp_path):
  with pytest.raises(SystemExit, match="taken for pictures"):
    suggest.main(["--workdir=absent", f"--images={tmp_path}", f"--out={tmp_path / 'out'}"])
