"""A classifier as the gate of a segmentation, against both networks run by hand."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from semiseg_jax import evaluate, label, predict, sharding
from semiseg_jax.config import schema
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.data.targets import Targets
from semiseg_jax.data.writing.dataset_writer import DatasetWriter
from semiseg_jax.errors import CheckpointError, ConfigError
from semiseg_jax.evaluation import inference, windows
from semiseg_jax.evaluation.gate import Gating
from semiseg_jax.models.layers import Mode
from semiseg_jax.training import experiment
from semiseg_jax.workdir.checkpoints import Checkpoints

CLASSES, COLORS = ("road", "sky", "car"), ((128, 64, 128), (70, 130, 180), (0, 0, 142))
SIZES = [(32, 48), (40, 40), (20, 64)]
CROP = (24, 32)


class FakeGate:
  """Keeps the classes whose number is in a picture's first pixel, bit by bit."""

  def __init__(self, rule):
    self.rule = rule

  def __call__(self, image):
    return jnp.asarray([bool(image[0, 0, 0] >> k & 1) for k in range(3)])


@pytest.mark.parametrize("window", [None, (4, 5)])
@pytest.mark.parametrize("rule", ["softmax_zero", "logit_zero"])
def test_each_picture_has_its_own_gate(rule, window):
  rng = np.random.default_rng(0)
  images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((6, 7), (4, 5), (9, 5))]
  for image, bits in zip(images, (0b101, 0b010, 0b011)):
    image[0, 0, 0] = bits
  forward = jax.jit(lambda x, valid: x - jnp.float32([[[[200, 120, 60]]]]))
  run = lambda gate: windows.Segmenter(
    forward, window=window, stride=window, batch=2, num_classes=3, gate=gate
  ).segment_many(images)
  for image, found, plain in zip(images, run(FakeGate(rule)), run(None), strict=True):
    logits = image.astype(float) - [200, 120, 60]
    kept = np.array([image[0, 0, 0] >> k & 1 for k in range(3)], bool)
    other = -np.inf if rule == "softmax_zero" else 0
    np.testing.assert_array_equal(plain, logits.argmax(-1))
    np.testing.assert_array_equal(found, np.where(kept, logits, other).argmax(-1))


def test_what_a_gate_takes_away_is_given_to_no_other_class():
  p = np.array([0.2, 0.7, 0.1], np.float32)
  forward = jax.jit(lambda x, valid: jnp.broadcast_to(jnp.asarray(p), (*x.shape[:3], 3)))
  gate = FakeGate("softmax_zero")
  options = {"window": None, "num_classes": 3, "confidence": True}
  image = np.full((2, 3, 3), 0b101, np.uint8)
  labels, confidence = windows.Segmenter(forward, gate=gate, **options)(image)
  assert (labels == 0).all() and (confidence == round(255 * 0.2)).all()


def picture(size, seed, channels=3):
  rng = np.random.default_rng(seed)
  return rng.integers(0, rng.integers(60, 256), (*size, channels), np.uint8)


def write_dataset(root, classes=CLASSES):
  with DatasetWriter(root, name="noise", classes=classes, colors=COLORS) as writer:
    for i, size in enumerate(SIZES):
      truth = picture(size, 100 + i, 1)[..., 0] % 4
      truth[truth == 3] = 255
      if i == 1:
        truth[truth == 2] = 0
      writer.add(f"n{i}", image=picture(size, i), label=truth)
    writer.lists(train=["n0", "n1", "n2"], val=["n0", "n1", "n2"], one=["n2"])


def config_of(root, classifier):
  config = schema.default()
  config.data.root, config.data.labeled = str(root), "one"
  config.model.backbone, config.model.output_stride = "tiny", 8
  config.train.steps, config.eval.pictures, config.eval.mode = 10, 0, "whole"
  config.eval.whole = "as_is"  # so that they are told by hand
  if classifier:
    config.model.head, config.method.name, config.method.networks = "classifier", "mlmt", 1
    config.data.crop, config.data.augment = CROP, "pseudoseg"
    return config
  config.model.deeplabv3plus.update(
    aspp_width=8, low_width=4, decoder_width=8, aspp_rates=(1, 2, 3), decoder_convs=1
  )
  return config


def write_run(folder, root, classifier, seed=0):
  config = config_of(root, classifier)
  config.seed = seed
  method = experiment.make_method(config, sharding.make_mesh(), classes=3, channels=3)
  state = experiment.initial_state(config, method, experiment.make_optimizer(config, method))
  # Fresh networks say the same everywhere; stronger kernels make their outputs vary.
  part = "decoder" if classifier else ""
  stronger = lambda path, x: 2 * x if part in jax.tree_util.keystr(path) else x
  params = jax.tree_util.tree_map_with_path(stronger, state.params)
  info = Dataset.open(root).info
  about = {k: getattr(info, k) for k in ("name", "classes", "colors", "channels", "fingerprint")}
  about["splits"] = {"labeled": {"name": "train", "ids": 3, "sha256": "0" * 64}}
  nets = experiment.describe_nets(method, method.evaluated)
  meta = {"config": json.loads(config.to_json_best_effort()), "dataset": about, **nets}
  saved = Checkpoints(folder)
  saved.save(state.__class__(**{**vars(state), "params": params}), meta, 0.25)
  saved.close()
  return str(folder)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """The dataset's folder, the run that segments and the classifier."""
  folder = tmp_path_factory.mktemp("runs")
  write_dataset(folder / "noise")
  segments = write_run(folder / "segments", folder / "noise", False)
  return folder / "noise", segments, write_run(folder / "mlmt", folder / "noise", True)


def by_hand(run, image):
  """Output logits of the first network of a run on a picture, in evaluation mode."""
  trained = inference.load_trained(run)
  member, params, stats = trained.network(0)
  first = lambda tree: jax.tree.map(lambda leaf: leaf[0], tree)
  x = (image / 255 - np.array(trained.config.data.mean)) / np.array(trained.config.data.std)
  network, mode = member.stack.network, Mode("eval")
  features, stats = network.encode(first(params), first(stats), jnp.float32(x)[None], mode)
  return network.decode(first(params), stats, features, mode)[0]["logits"][0]


@pytest.fixture(scope="module")
def truth(runs):
  """Of each picture: its example, the logits of its pixels and the probabilities of its classes."""
  root, segments, classifier = runs
  dataset, found = Dataset.open(root), []
  forward = inference.make_forward(inference.load_trained(segments), "0")
  for i in range(3):
    example = dataset.read(i)
    valid = np.array([[0, 0, *example.size]], np.int32)
    logits = np.asarray(forward(example.image[None], valid))[0]
    small = Image.fromarray(example.image).resize(CROP[::-1], Image.Resampling.BILINEAR)
    p = 1 / (1 + np.exp(-np.float64(by_hand(classifier, np.asarray(small))[0, 0])))
    found.append((example, logits, p))
  return found


def threshold_of(truth):
  """One that keeps unlike classes of unlike pictures, far from every probability."""
  every = np.sort(np.stack([p for *_, p in truth]).ravel())
  options = [(b - a, (a + b) / 2) for a, b in zip(every, every[1:])]
  kept = lambda t: {tuple(p >= t) for *_, p in truth}
  matters = lambda t: any(
    (logits.argmax(-1) != labels).any()
    for (_, logits, _), labels in zip(truth, expected(truth, t, "softmax_zero"))
  )
  fit = [(gap, t) for gap, t in options if len(kept(t)) > 1 and all(map(any, kept(t)))]
  return max(found for found in fit if matters(found[1]))[1]


def expected(truth, threshold, rule, always=()):
  found = []
  for _, logits, p in truth:
    kept = (p >= threshold) | np.isin(CLASSES, always)
    chosen = np.where(kept, logits, -np.inf if rule == "softmax_zero" else 0)
    found.append(chosen.argmax(-1))
  return found


def confusion_of(truth, labels):
  counts = np.zeros((3, 3), int)
  for (example, *_), found in zip(truth, labels, strict=True):
    for true, predicted in zip(example.label.ravel(), found.ravel()):
      if true < 3:
        counts[true, predicted] += 1
  return counts.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["softmax_zero", "logit_zero"])
def test_evaluation_and_prediction_are_gated_picture_by_picture(runs, truth, rule):
  _, segments, classifier = runs
  gating = Gating(classifier, threshold_of(truth), rule)
  labels = expected(truth, gating.threshold, rule)
  fields = evaluate.evaluate(segments, gate=gating)
  assert fields["confusion"] == confusion_of(truth, labels)
  assert fields["confusion"] != evaluate.evaluate(segments)["confusion"]
  about = fields["protocol"]["gate"]
  assert (about["run"], about["rule"], about["always"]) == ("mlmt", rule, [])
  # A list of one picture: the gate is that picture's, not that of the first line.
  alone = evaluate.evaluate(segments, split="one", gate=gating)
  assert alone["confusion"] == confusion_of(truth[2:], labels[2:])
  predictor = predict.load_predictor(segments, gate=gating, batch=2, whole="as_is")
  for (example, *_), found in zip(truth, labels):
    np.testing.assert_array_equal(predictor(example.image), found)
  files = {p.name for p in pathlib.Path(segments, "evaluations").glob("val_*.json")}
  assert len([n for n in files if rule in n and "gate_mlmt_step_0" in n]) == 1


@pytest.mark.slow
def test_the_command_lines_take_a_gate(runs, truth, tmp_path):
  root, segments, classifier = runs
  flags = [f"--gate={classifier}", f"--gate_threshold={threshold_of(truth)}"]
  images, out = tmp_path / "in", tmp_path / "out"
  images.mkdir()
  for i, (example, *_) in enumerate(truth):
    Image.fromarray(example.image).save(images / f"{2 - i}.png")  # in another order
  where = [f"--images={images}", f"--out={out}", "--whole=as_is", "--gate_always", "road"]
  predict.main([f"--workdir={segments}", *flags, *where])
  labels = expected(truth, threshold_of(truth), "softmax_zero", always=("road",))
  for i, found in enumerate(labels):
    np.testing.assert_array_equal(Image.open(out / "labels" / f"{2 - i}.png"), found)
  stored = tmp_path / "targets"
  command = [f"--workdir={segments}", f"--out={stored}", "--network=0", f"--data_root={root}"]
  label.main([*command, "--unlabeled=all", "--labeled=one", *flags])
  labels, targets = expected(truth, threshold_of(truth), "softmax_zero"), Targets.open(stored)
  assert targets.info.about["protocol"]["gate"]["run"] == "mlmt"
  for i, found in enumerate(labels[:2]):
    record = targets.record(f"n{i}")
    maps = record.window(0, 0, *record.size)
    np.testing.assert_array_equal(maps["target"].values, found)
  with pytest.raises(SystemExit, match="label: gate rule 'logit_zero' multiplies logits"):
    label.main([*command, "--overwrite", "--unlabeled=all", *flags, "--gate_rule=logit_zero"])


@pytest.mark.slow
def test_a_classifier_alone_is_scored_by_its_precision(runs, truth, capsys):
  _, _, classifier = runs
  fields = evaluate.evaluate(classifier)
  present = [[(example.label == k).any() for k in range(3)] for example, *_ in truth]
  p = np.stack([p for *_, p in truth])
  assert present[1] == [True, True, False]
  order = np.argsort(-p[:, 2])
  ranks = [i + 1 for i, row in enumerate(order) if present[row][2]]
  car = np.mean([(k + 1) / rank for k, rank in enumerate(ranks)])
  np.testing.assert_allclose(fields["average_precision"]["car"], car)
  np.testing.assert_allclose(fields["mean_average_precision"], (1 + 1 + car) / 3)
  recall = [np.mean([p[i, k] >= 0.2 for i in range(3) if present[i][k]]) for k in range(3)]
  np.testing.assert_allclose(list(fields["recall"].values()), recall)
  assert fields["protocol"]["size"] == list(CROP) and "miou" not in fields
  assert f"{100 * fields['mean_average_precision']:.2f}" in capsys.readouterr().out


@pytest.mark.slow
def test_what_a_classifier_cannot_do_is_refused_with_what_it_can(runs, tmp_path):
  root, segments, classifier = runs
  for flags in ({"mode": "slide"}, {"window": (8, 8)}, {"gate": classifier}):
    with pytest.raises(ConfigError, match="mlmt is a classifier of whole pictures.*give it to"):
      evaluate.evaluate(classifier, **flags)
  for call in (
    lambda: predict.load_predictor(classifier),
    lambda: label.label(classifier, str(tmp_path / "out"), data_root=str(root)),
  ):
    with pytest.raises(ConfigError, match="cannot label pixels. Score it .*--gate"):
      call()
  assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_gate_that_does_not_fit_is_one_error(runs, tmp_path):
  _, segments, classifier = runs
  with pytest.raises(ConfigError, match="segments is a run that segments; a gate is a classifier"):
    evaluate.evaluate(segments, gate=segments)
  write_dataset(tmp_path / "other", classes=("road", "sky", "bus"))
  other = write_run(tmp_path / "mlmt", tmp_path / "other", True)
  with pytest.raises(ConfigError, match="'bus'.*'car'.*train both on one dataset"):
    predict.load_predictor(segments, gate=other)
  for gate, words in ((str(tmp_path), "no checkpoints"), (Gating(classifier, step=7), "no step 7")):
    with pytest.raises(CheckpointError, match=f"^--gate=.* {words}"):
      evaluate.evaluate(segments, gate=gate)
  with pytest.raises(ConfigError, match="tree: no such class; there are: road, sky, car"):
    evaluate.evaluate(segments, gate=Gating(classifier, always=("tree",)))
  with pytest.raises(ConfigError, match="'logit_zero' multiplies logits.*--network=0"):
    evaluate.evaluate(segments, network="mean", gate=Gating(classifier, rule="logit_zero"))


@pytest.mark.parametrize(
  "flags, words",
  [
    (["--gate_threshold=0.3"], "--gate_threshold: there is no gate; name the workdir"),
    (["--gate=x", "--gate_threshold=1.3"], "gate threshold 1.3: a probability"),
  ],
)
def test_impossible_flags(flags, words):
  with pytest.raises(SystemExit, match=f"evaluate: {words}"):
    evaluate.main(["--workdir=runs/none", *flags])
  with pytest.raises(ConfigError, match="gate rule 'any': one of softmax_zero, logit_zero"):
    Gating("x", rule="any")
