"""The kinds of files that predict writes, around networks whose answers are known."""

import cv2
import numpy as np
import pytest
from PIL import Image

from semiseg_jax import predict
from semiseg_jax.errors import ConfigError, DataError
from semiseg_jax.evaluation import map_files
from semiseg_jax.evaluation.maps import Maps, Wanted

CLASSES, COLORS = ("road", "sky", "car"), ((128, 64, 128), (70, 130, 180), (0, 0, 142))
P = np.array([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])  # of dark and of bright pixels


class _Networks:
  """Says P of each pixel, and disagrees on the bright ones."""

  def __init__(self, wanted):
    self.asked = wanted

  def segment_many(self, images, sizes=()):
    for image in images:
      bright = (image[..., 0] > 99).astype(int)
      p = P[bright]
      yield Maps(
        p.argmax(-1).astype(np.uint8),
        confidence=np.rint(255 * p.max(-1)).astype(np.uint8) if self.asked.confidence else None,
        disagreement=(200 * bright).astype(np.uint8) if self.asked.disagreement else None,
        probabilities=p.astype(np.float16) if self.asked.probabilities else None,
        top_classes=np.argsort(-p, -1)[..., : self.asked.top].astype(np.uint8),
        top_probabilities=np.rint(-255 * np.sort(-p, -1))[..., : self.asked.top].astype(np.uint8),
      )


def _predictor(source_ids=(7, 8, 26), **options):
  about = {"name": "d", "classes": CLASSES, "source_ids": source_ids}
  options = {"mapped": _Networks, "classes": CLASSES, "colors": COLORS, "channels": 3} | options
  return predict.Predictor(_Networks(Wanted()), about=about, **options)


@pytest.fixture
def folder(tmp_path):
  """Two pictures and a broken one."""
  (tmp_path / "in/deep").mkdir(parents=True)
  pixels = np.zeros((2, 3, 3), np.uint8)
  pixels[0, 1:] = 200
  Image.fromarray(pixels).save(tmp_path / "in/a.b.png")
  Image.fromarray(pixels).save(tmp_path / "in/deep/c.bmp")
  (tmp_path / "in/broken.jpg").write_bytes(b"\xff\xd8 no picture")
  return tmp_path


LABEL = np.array([[0, 2, 2], [0, 0, 0]])


def test_every_kind_is_written_of_what_can_be_read(folder):
  failures = predict.predict_folder(
    _predictor(), str(folder / "in"), str(folder / "out"), write=map_files.KINDS
  )
  assert [line.partition(":")[0] for line in failures] == [str(folder / "in/broken.jpg")]
  written = {str(p.relative_to(folder / "out")) for p in (folder / "out").rglob("*.*")}
  ends = {kind: ".npy" if kind == "probabilities" else ".png" for kind in map_files.KINDS}
  assert written == {f"{k}/{name}{end}" for k, end in ends.items() for name in ("a.b", "deep/c")}
  read = lambda kind: Image.open(folder / "out" / kind / "deep/c.png")
  assert read("labels").mode == "L" and np.asarray(read("labels")).tolist() == LABEL.tolist()
  assert read("palette").mode == "P" and np.asarray(read("palette")).tolist() == LABEL.tolist()
  shown = np.asarray(COLORS)[LABEL]
  np.testing.assert_array_equal(read("palette").convert("RGB"), shown)
  np.testing.assert_array_equal(read("color"), shown)
  np.testing.assert_array_equal(read("confidence"), np.rint(255 * P.max(-1))[LABEL // 2])
  np.testing.assert_array_equal(read("disagreement"), 200 * (LABEL // 2))
  p = np.load(folder / "out/probabilities/a.b.npy")
  assert p.dtype == np.float16
  np.testing.assert_array_equal(p, P.astype(np.float16)[LABEL // 2])


def test_probabilities_of_some_classes(folder):
  kinds = ("probabilities",)
  predict.predict_folder(_predictor(), str(folder / "in"), folder / "out", write=kinds, topk=2)
  with np.load(folder / "out/probabilities/a.b.npz") as found:
    assert found["classes"][0].tolist() == [[0, 1], [2, 0], [2, 0]]
    assert found["probabilities"][1, 0].tolist() == [128, 76]
  assert [p.name for p in (folder / "out").iterdir()] == ["probabilities"]


def test_a_palette_of_ids_of_the_source(folder):
  run = lambda predictor: predict.predict_folder(
    predictor, str(folder / "in"), folder / "out", write=("palette", "labels"), ids="source"
  )
  run(_predictor())
  palette = Image.open(folder / "out/palette/a.b.png")
  assert np.asarray(palette).tolist() == [[7, 26, 26], [7, 7, 7]]
  np.testing.assert_array_equal(palette.convert("RGB"), np.asarray(COLORS)[LABEL])
  gray = cv2.imread(str(folder / "out/labels/a.b.png"), cv2.IMREAD_UNCHANGED)
  assert gray.tolist() == [[7, 26, 26], [7, 7, 7]]  # OpenCV gives the colors of palettes
  with pytest.raises(DataError, match="a palette has 256 colors"):
    run(_predictor(source_ids=(7, 8, 300)))


def test_a_list_is_labeled(folder):
  (folder / "l.txt").write_text("deep/c\n")
  failures = predict.predict_folder(
    _predictor(), str(folder / "in"), folder / "out", listed=folder / "l.txt", write=("confidence",)
  )
  assert not failures and failures.pictures == 1
  assert [p.name for p in (folder / "out/confidence/deep").iterdir()] == ["c.png"]


def test_too_large_probabilities_are_refused_and_others_are_written(folder, monkeypatch):
  Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(folder / "in/small.png")
  monkeypatch.setattr(map_files, "_MOST_BYTES", 30)
  failures = predict.predict_folder(
    _predictor(), str(folder / "in"), folder / "out", write=("probabilities",)
  )
  assert [p.name for p in (folder / "out/probabilities").rglob("*.npy")] == ["small.npy"]
  large = [line for line in failures if "3x2 pixels of 3 classes" in line]
  assert len(large) == 2 and "a.b.png: " in large[0] and "--topk" in large[0]


@pytest.mark.parametrize(
  "kinds, top, said",
  [
    ((), 0, "--write nothing; one or more of labels,"),
    (("labels", "masks"), 0, "--write 'masks': unknown"),
    (("labels",), 2, "--topk 2 is of probabilities"),
  ],
)
def test_kinds_that_cannot_be(folder, kinds, top, said):
  with pytest.raises(ConfigError, match=said):
    predict.predict_folder(_predictor(), str(folder / "in"), folder / "o", write=kinds, topk=top)


def test_a_predictor_of_labels_alone_refuses_maps_before_it_writes(folder):
  predictor = _predictor(mapped=None)
  with pytest.raises(ConfigError, match="gives labels alone"):
    predict.predict_folder(predictor, str(folder / "in"), folder / "out", write=("confidence",))
  assert not (folder / "out").exists()


def test_kinds_on_the_command_line():
  assert predict.parse_kinds("labels, color,labels,") == ("labels", "color")
