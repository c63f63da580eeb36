"""Both programs on a workdir with a real checkpoint of two small networks, untrained."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest
from absl import logging
from PIL import Image

from semiseg_jax import evaluate, predict, sharding
from semiseg_jax import label as labeling
from semiseg_jax.config import schema
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import ConfigError, DataError
from semiseg_jax.evaluation import inference, protocol, protocol_flags, result_files
from semiseg_jax.training import experiment
from semiseg_jax.workdir.checkpoints import Checkpoints

CLASSES, COLORS = ("road", "sky", "car"), ((128, 64, 128), (70, 130, 180), (0, 0, 142))
SOURCE_IDS = (10, 20, 30)
SIZES = [(32, 48), (40, 40), (20, 64)]


@pytest.fixture(autouse=True)
def verbosity():
  """The command lines quieten absl for their whole process, which here is that of all tests."""
  before = logging.get_verbosity()
  yield
  logging.set_verbosity(before)


def picture(size, seed, channels=3):
  return np.random.default_rng(seed).integers(0, 256, (*size, channels), np.uint8)


def write_dataset(root, classes=CLASSES):
  how = {"classes": classes, "colors": COLORS, "source_ids": SOURCE_IDS}
  with DatasetWriter(root, name="noise", **how) as writer:
    for i, size in enumerate(SIZES):
      label = picture(size, 100 + i, 1)[..., 0] % 4
      label[label == 3] = 255
      writer.add(f"n{i}", image=picture(size, i), label=label)
    writer.lists(val=["n0", "n1", "n2"], one=["n2"], train=["n0", "n1"], labeled=["n0"])


def small_config(root):
  config = schema.default()
  config.data.root, config.data.labeled = str(root), "labeled"
  config.model.backbone, config.model.output_stride = "tiny", 8
  config.model.deeplabv3plus.update(
    aspp_width=8, low_width=4, decoder_width=8, aspp_rates=(1, 2, 3), decoder_convs=1
  )
  config.train.steps = 10
  config.eval.window, config.eval.batch, config.eval.pictures = (32, 32), 2, 2
  return config


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("run")
  write_dataset(folder / "noise")
  config = small_config(folder / "noise")
  method = experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3)
  state = experiment.initial_state(config, method, experiment.make_optimizer(config, method))
  # Fresh networks say one class everywhere; stronger kernels make the labels vary.
  state = dataclasses.replace(state, params=jax.tree.map(lambda x: 2 * x, state.params))
  info = Dataset.open(folder / "noise").info
  kept = ("name", "classes", "colors", "channels", "fingerprint", "source_ids")
  about = {k: getattr(info, k) for k in kept}
  about["splits"] = {"labeled": {"name": "train", "ids": 3, "sha256": "0" * 64}}
  saved = Checkpoints(folder / "work")
  nets = experiment.describe_nets(method, method.evaluated)
  meta = {"config": json.loads(config.to_json_best_effort()), "dataset": about, **nets}
  saved.save(state, meta, 0.25)
  saved.close()
  return str(folder / "work")


@pytest.mark.parametrize("how", [{"whole": "padded"}, {"mode": "slide"}])
def test_twenty_sizes_one_by_one_need_three_compilations(workdir, how):
  """Every one that XLA is asked for counts, whatever it is for."""
  begun = []
  count = lambda event, *_, **__: begun.append(event) if "backend_compile" in event else None
  predictor = predict.load_predictor(workdir, window=(24, 24) if "mode" in how else None, **how)
  pictures = [picture(size, 0) for size in np.random.default_rng(0).integers(18, 70, (20, 2))]
  jax.monitoring.register_event_duration_secs_listener(count)
  try:
    labels = [predictor(one) for one in pictures]
  finally:
    jax.monitoring.unregister_event_duration_listener(count)
  assert [x.shape for x in labels] == [x.shape[:2] for x in pictures]
  assert 0 < len(begun) <= 3


def counted(labels, predictions):
  counts = np.zeros((3, 3), int)
  for label, prediction in zip(labels, predictions, strict=True):
    for truth, predicted in zip(label.ravel(), prediction.ravel()):
      if truth < 3:
        counts[truth, predicted] += 1
  return counts


@pytest.mark.slow
@pytest.mark.parametrize(
  "choice, more",
  [
    ({}, {"calibration": True}),
    ({"network": "1"}, {"pseudo_labels": True}),
    ({"network": "mean", "mode": "whole", "step": "best"}, {}),
  ],
)
def test_evaluation_counts_what_predict_writes(workdir, tmp_path, choice, more, capsys):
  """The files of predict, in the ids of the masks, are counted one by one."""
  batch = 2  # that of the evaluation, as convolutions round differently in other batches
  fields = evaluate.evaluate(workdir, **choice, **more)
  for i, size in enumerate(SIZES):
    save(tmp_path / "images" / f"n{i}.png", picture(size, i))
  predictor = predict.load_predictor(workdir, batch=batch, **choice)
  assert not predict.predict_folder(predictor, tmp_path / "images", tmp_path, ids="source")
  files = [tmp_path / "labels" / f"n{i}.png" for i in range(3)]
  truths = [picture(size, 100 + i, 1)[..., 0] % 4 for i, size in enumerate(SIZES)]  # 3: ignored
  written = [np.asarray(Image.open(file)) for file in files]
  assert set(np.unique(np.concatenate([x.ravel() for x in written]))) <= set(SOURCE_IDS)
  labels = [x // 10 - 1 for x in written]
  assert [label.shape for label in labels] == SIZES
  assert fields["confusion"] == counted(truths, labels).tolist()
  if "calibration" in more:
    assert sum(fields["calibration"]["pixels"]) == np.sum(fields["confusion"])
  if "pseudo_labels" in more:  # train without labeled
    assert fields["pseudo_labels"]["confusion"] == counted(truths[1:2], labels[1:2]).tolist()
    assert fields["pseudo_labels"]["by_threshold"][0]["coverage"] == 1
  assert len(np.unique(np.concatenate([label.ravel() for label in labels]))) > 1
  assert {k: fields["split"][k] for k in ("name", "ids")} == {"name": "val", "ids": 3}
  assert fields["split"]["known_as"] is None
  table = capsys.readouterr().out
  assert f"{100 * fields['miou']:.2f}" in table and "car" in table
  files = sorted(pathlib.Path(workdir, "evaluations").glob("*"))
  (result,) = [f for f in files if f.suffix == ".json" and str(f) in table]
  assert result_files.read(result) == json.loads(json.dumps(fields))
  assert result.with_suffix(".png") in files


@pytest.mark.slow
def test_networks_and_protocols_give_different_results(workdir):
  runs = [{}, {"network": "1"}, {"mode": "whole"}, {"window": (16, 24)}, {"split": "one"}]
  found = [evaluate.evaluate(workdir, **choice)["confusion"] for choice in runs]
  assert len({str(confusion) for confusion in found}) == len(runs)


def test_a_plain_folder_with_masks_gives_the_scores_of_the_dataset(workdir, tmp_path):
  dataset = Dataset.open(pathlib.Path(workdir).parent / "noise")
  for i in range(3):
    example = dataset.read(i)
    save(tmp_path / "images" / f"{example.id}.png", example.image)
    save(tmp_path / "labels" / f"{example.id}.png", example.label)
  flags = [f"--workdir={workdir}", f"--images={tmp_path / 'images'}", "--ids=train"]
  with pytest.raises(SystemExit, match="--images=DIR and --labels=DIR go together"):
    evaluate.main(flags)
  with pytest.raises(SystemExit, match="leave out --split"):
    evaluate.main([*flags, "--labels=masks", "--split=val"])
  evaluate.main([*flags, f"--labels={tmp_path / 'labels'}", "--border=padded"])
  (file,) = pathlib.Path(workdir, "evaluations").glob("images_*_padded.json")
  found = result_files.read(file)
  assert found["protocol"]["border"] == "padded" and found["split"]["ids"] == 3
  same = evaluate.evaluate(workdir, border="padded")
  assert found["confusion"] == same["confusion"]


def test_the_middle_is_evaluated_and_not_predicted(workdir):
  fields = evaluate.evaluate(workdir, mode="center_crop", window=(16, 32))
  labels = [Dataset.open(pathlib.Path(workdir).parent / "noise").read(i).label for i in range(3)]
  middles = [y[(h - 16) // 2 :][:16, (w - 32) // 2 :][:, :32] for y, (h, w) in zip(labels, SIZES)]
  assert fields["labeled_pixels"] == sum(int((middle < 3).sum()) for middle in middles)
  with pytest.raises(ConfigError, match="scores the middle"):
    predict.load_predictor(workdir, mode="center_crop")


def test_sums_of_windows_are_those_of_a_plain_loop(workdir):
  trained = inference.load_trained(workdir)
  forward = inference.make_forward(trained, "0")
  image = picture((50, 70), 7)
  total = np.zeros((50, 70, 3))
  for y in (0, 18):
    for x in (0, 22, 38):
      window = image[None, y : y + 32, x : x + 32]
      total[y : y + 32, x : x + 32] += np.asarray(forward(window, np.array([[0, 0, 32, 32]])))[0]
  how = protocol.from_config(trained.config.eval)
  label = how.segmenter(forward, 3)(image)
  chosen = np.take_along_axis(total, label[..., None].astype(int), -1)[..., 0]
  np.testing.assert_allclose(chosen, total.max(-1), atol=1e-5)
  assert len(np.unique(label)) > 1


def test_a_dataset_of_other_classes_is_refused_and_another_one_is_told(workdir, tmp_path, capsys):
  write_dataset(tmp_path / "other", classes=("road", "sky", "bus"))
  with pytest.raises(DataError, match="bus"):
    evaluate.evaluate(workdir, data_root=str(tmp_path / "other"))
  with DatasetWriter(tmp_path / "new", name="new", classes=CLASSES, colors=COLORS) as writer:
    writer.add("m", image=picture((32, 32), 9), label=np.zeros((32, 32), np.uint8))
    writer.lists(val=["m"])
  fields = evaluate.evaluate(workdir, data_root=str(tmp_path / "new"))
  assert "NOTE" in capsys.readouterr().out
  assert fields["dataset"]["name"] == "new" and fields["trained_on"]["name"] == "noise"


@pytest.mark.parametrize(
  "flags, message",
  [
    (["--split=nope"], "nope"),
    (["--network=2"], "network"),
    (["--step=7"], "7"),
    (["--mode=whole", "--window=32"], "whole"),
    (["--stride=40"], "stride"),
  ],
)
def test_command_line_errors_are_one_message(workdir, flags, message):
  with pytest.raises(SystemExit, match=f"evaluate: .*{message}"):
    evaluate.main([f"--workdir={workdir}", *flags])


def test_several_lists_are_evaluated_one_after_the_other(monkeypatch):
  seen = []
  monkeypatch.setattr(evaluate, "evaluate", lambda **flags: seen.append(flags))
  evaluate.main(["--workdir=runs/one", "--network=mean", "--split", "val", "held_out"])
  evaluate.main(["--workdir=runs/one"])
  assert [flags["split"] for flags in seen] == ["val", "held_out", None]
  assert [flags["network"] for flags in seen] == ["mean", "mean", None]


def test_sizes_on_the_command_line():
  assert protocol_flags.parse_size("512") == (512, 512)
  assert protocol_flags.parse_size("512x1024") == (512, 1024)
  for text in ("", "0", "1x2x3", "a"):
    with pytest.raises(protocol_flags.argparse.ArgumentTypeError):
      protocol_flags.parse_size(text)


def test_a_dataset_that_was_moved_is_named_with_data_root(workdir, tmp_path, monkeypatch):
  place = pathlib.Path(workdir).parent / "noise"
  place.rename(tmp_path / "moved")
  try:
    for main, more in ((evaluate.main, ()), (labeling.main, (f"--out={tmp_path / 'labels'}",))):
      with pytest.raises(SystemExit, match=f"{place}, the dataset .*--data_root=FOLDER"):
        main([f"--workdir={workdir}", *more])
  finally:
    (tmp_path / "moved").rename(place)


def test_nothing_done_is_said_so(workdir, tmp_path, capsys):
  images, out = tmp_path / "in", tmp_path / "out"
  images.mkdir()
  (images / "a.jpg").write_bytes(b"no picture")
  with pytest.raises(SystemExit, match="predict: 0 of 1 done, 1 picture") as stop:
    predict.main([f"--workdir={workdir}", f"--images={images}", f"--out={out}"])
  assert "lie in" not in capsys.readouterr().out and "BytesIO" not in str(stop.value)


def save(path, array):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(array).save(path)


def test_predict_does_all_it_can_and_names_the_rest(workdir, tmp_path, capsys):
  images, out = tmp_path / "in", tmp_path / "out"
  color = picture((50, 37), 1)
  save(images / "a.png", color)
  save(images / "deep" / "b.jpg", picture((10, 90), 2))
  save(images / "gray.png", picture((33, 32), 3)[..., 0])
  opaque = picture((32, 32), 4, 4)
  opaque[..., 3] = 255
  save(images / "opaque.png", opaque)
  np.save(images / "deep.npy", picture((16, 16), 5).astype(np.uint16) * 100)
  (images / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
  whole = (images / "a.png").read_bytes()
  (images / "cut.png").write_bytes(whole[: len(whole) // 2])
  (images / "notes.txt").write_text("not a picture")
  with pytest.raises(SystemExit) as stop:
    predict.main([f"--workdir={workdir}", f"--images={images}", f"--out={out}", "--batch=3",
                  "--value_range", "0", "25500"])  # fmt: skip
  assert "broken.jpg" in str(stop.value) and "5 of 7 done, 2 pictures were" in str(stop.value)
  names = ["a.png", "deep.png", "deep/b.png", "gray.png", "opaque.png"]
  for kind in ("labels", "color", "overlay"):
    found = sorted(str(p.relative_to(out / kind)) for p in (out / kind).rglob("*") if p.is_file())
    assert found == names
  label = np.asarray(Image.open(out / "labels" / "a.png"))
  np.testing.assert_array_equal(label, predict.load_predictor(workdir)(color))
  np.testing.assert_array_equal(
    np.asarray(Image.open(out / "color" / "a.png")), np.asarray(COLORS, np.uint8)[label]
  )
  np.testing.assert_array_equal(
    np.asarray(Image.open(out / "labels" / "deep.png")),
    predict.load_predictor(workdir)(picture((16, 16), 5)),
  )
  assert Image.open(out / "overlay" / "deep" / "b.png").size == (90, 10)


def test_predict_refuses_before_it_starts(workdir, tmp_path):
  predictor = predict.Predictor(None, classes=CLASSES, colors=COLORS, channels=3)
  images = tmp_path / "in"
  with pytest.raises(DataError, match="not a folder"):
    predict.predict_folder(predictor, str(images), str(tmp_path / "out"))
  images.mkdir()
  with pytest.raises(DataError, match="no pictures"):
    predict.predict_folder(predictor, str(images), str(tmp_path / "out"))
  save(images / "a.png", picture((4, 4), 0))
  with pytest.raises(DataError, match="taken for pictures"):
    predict.predict_folder(predictor, str(images), str(images / "out"))
  save(images / "a.jpg", picture((4, 4), 0))
  with pytest.raises(DataError, match="same name"):
    predict.predict_folder(predictor, str(images), str(tmp_path / "out"))


@pytest.mark.parametrize("blocked", ["out", "out/overlay"])
def test_predict_refuses_a_place_it_cannot_write_to_before_it_starts(tmp_path, blocked):
  predictor = predict.Predictor(None, classes=CLASSES, colors=COLORS, channels=3)
  save(tmp_path / "in" / "a.png", picture((4, 4), 0))
  (tmp_path / blocked).parent.mkdir(exist_ok=True)
  (tmp_path / blocked).write_text("a file, where a folder is needed")
  with pytest.raises(DataError, match="cannot write in .*out.*choose another --out"):
    predict.predict_folder(predictor, str(tmp_path / "in"), str(tmp_path / "out"))


def test_predict_refuses_an_empty_batch(workdir, tmp_path):
  with pytest.raises(SystemExit, match="predict: .*batch 0"):
    predict.main([f"--workdir={workdir}", f"--images={tmp_path}", "--out=x", "--batch=0"])


def test_predictor_refuses_other_channels():
  predictor = predict.Predictor(None, classes=CLASSES, colors=COLORS, channels=3)
  with pytest.raises(DataError, match=r"\[H,W,3\]"):
    predictor(np.zeros((4, 4), np.uint8))
