"""Annotation files in the place of masks: what each pixel becomes, and what is refused."""

import base64
import io
import json
import re
import zlib

import numpy as np
import pytest
from PIL import Image

from data_prep import folder
from semiseg_jax.data.dataset import Dataset

# 5 rows of 8: a cat of 3 x 2 pixels, a dog of 2 x 3.
LABEL = [
  [0, 0, 0, 0, 0, 0, 0, 0],
  [0, 1, 1, 1, 0, 0, 0, 0],
  [0, 1, 1, 1, 0, 2, 2, 0],
  [0, 0, 0, 0, 0, 2, 2, 0],
  [0, 0, 0, 0, 0, 2, 2, 0],
]
CAT, DOG = (1, 1, 4, 3), (5, 2, 7, 5)
CLASSES = "background\ncat\ndog\n"


def _corners(box):
  left, top, right, bottom = box
  return [[left, top], [right, top], [right, bottom], [left, bottom]]


def _flat(box):
  return [number for corner in _corners(box) for number in corner]


def _png(height, width, deflated):
  file = io.BytesIO()
  Image.fromarray(np.full((height, width), 255, np.uint8)).save(file, "PNG")
  data = file.getvalue()
  return base64.b64encode(zlib.compress(data) if deflated else data).decode()


def _write(path, content):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(content if isinstance(content, str) else json.dumps(content))


def coco(images=("a.png", "b.png"), segmentation=None, **changes):
  """Of the first picture the cat is a polygon; the dog is run lengths, in the second one as text."""
  shapes = [
    {"image_id": 7, "category_id": 3, "segmentation": segmentation or [_flat(CAT)]},
    {"image_id": 7, "category_id": 5, "segmentation": {"counts": RUNS, "size": [5, 8]}},
    {"image_id": 8, "category_id": 3, "segmentation": [_flat(CAT)], "iscrowd": 0},
    {"image_id": 8, "category_id": 5, "segmentation": {"counts": TEXT, "size": [5, 8]}},
  ]
  shapes[0] |= changes
  return {
    "images": [
      {"id": 7 + i, "file_name": name, "width": 8, "height": 5} for i, name in enumerate(images)
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    "annotations": [a for a in shapes if a["image_id"] < 7 + len(images)],
  }


RUNS, TEXT = [27, 3, 2, 3, 5], "k03203"  # of the dog, the text by pycocotools 2.0.11


def labelme(name="a.png", shapes=None):
  shapes = shapes or [("cat", "rectangle", [[4, 3], [1, 1]]), ("dog", "polygon", _corners(DOG))]
  return {
    "version": "5.5.0",
    "imagePath": name,
    "imageData": None,
    "imageHeight": 5,
    "imageWidth": 8,
    "shapes": [{"label": n, "shape_type": kind, "points": p} for n, kind, p in shapes],
  }


def _labelme(root):
  _write(root / "labels/a.json", labelme("..\\photos\\a.png"))
  second = labelme("b.png")
  second["shapes"][1] |= {
    "shape_type": "mask",
    "points": [[5, 2], [6, 4]],
    "mask": _png(3, 2, deflated=False),
  }
  _write(root / "labels/b.json", second)


CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><name>x</name></task></meta>
<image id="0" name="a.png" width="8" height="5">
<polygon label="cat" source="manual" occluded="0" points="1.0,1.0;4.0,1.0;4.0,3.0;1.0,3.0"
 z_order="2"/>
<box label="dog" xtl="1" ytl="1" xbr="3" ybr="2" z_order="1"/>
<mask label="dog" rle="0, 6" left="5" top="2" width="2" height="3" z_order="1"/></image>
<image id="1" name="b.png" width="8" height="5">
<box label="cat" xtl="1" ytl="1" xbr="4" ybr="3"/>
<polyline label="dog" points="6,3;6,4" z_order="1"/></image></annotations>"""


def _supervisely(root):
  size = {"height": 5, "width": 8}
  cat = {"classTitle": "cat", "geometryType": "polygon"}
  cat |= {"points": {"exterior": [[1, 1], [3, 1], [3, 2], [1, 2]], "interior": []}}
  dog = {"classTitle": "dog", "geometryType": "bitmap"}
  dog |= {"bitmap": {"data": _png(3, 2, deflated=True), "origin": [5, 2]}}
  box = {"classTitle": "dog", "geometryType": "rectangle", "points": {"exterior": [[5, 2], [6, 4]]}}
  _write(root / "labels/ann/a.png.json", {"size": size, "objects": [cat, dog]})
  _write(root / "labels/ann/b.png.json", {"size": size, "objects": [cat, box]})
  _write(root / "labels/meta.json", {"classes": [{"title": "cat"}]})


def _datumaro(root):
  def item(name, *annotations):
    return {"id": name, "annotations": annotations, "image": {"path": "", "size": [5, 8]}}

  cat = {"type": "polygon", "label_id": 0, "points": _flat(CAT)}
  runs = {"type": "mask", "label_id": 1, "rle": {"counts": TEXT, "size": [5, 8]}}
  box = {"type": "bbox", "label_id": 1, "bbox": [5, 2, 2, 3]}
  labels = {"label": {"labels": [{"name": "cat"}, {"name": "dog"}]}}
  content = {"categories": labels, "items": [item("a", cat, runs), item("b", box, cat)]}
  _write(root / "labels/default.json", content)


def _yolo(root):
  lines = [
    " ".join([number, *(f"{x / 8} {y / 5}" for x, y in _corners(box))])
    for number, box in (("1", CAT), ("2", DOG))
  ]
  _write(root / "labels/a.txt", "\n".join(lines) + "\n")
  _write(root / "labels/b.txt", "\n".join(reversed(lines)))
  _write(root / "labels/classes.txt", "cat\ndog")
  (root / "classes.json").write_text('{"0": "background", "1": "cat", "2": "dog"}')


TOOLS = {
  "COCO": lambda root: _write(root / "labels/instances.json", coco()),
  "labelme": _labelme,
  "CVAT": lambda root: _write(root / "labels/annotations.xml", CVAT),
  "Supervisely": _supervisely,
  "Datumaro": _datumaro,
}


@pytest.fixture
def root(tmp_path):
  """Three pictures, of which the last is never annotated."""
  (tmp_path / "photos").mkdir()
  for name in "abc":
    pixels = np.random.default_rng(ord(name)).integers(0, 256, (5, 8, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / f"photos/{name}.png")
  (tmp_path / "classes.txt").write_text(CLASSES)
  return tmp_path


def _prepare(root, *options, labels="labels", classes="classes.txt"):
  folder.main(
    [
      *("--images", f"{root}/photos", "--labels", f"{root}/{labels}", "--workers", "0"),
      *("--classes", f"{root}/{classes}", "--out", f"{root}/out", "--overwrite", *options),
    ]
  )
  return Dataset.open(root / "out")


def _fails(root, message, *options, **places):
  with pytest.raises(SystemExit, match=message) as caught:
    _prepare(root, *options, **places)
  assert not (root / "out").exists()
  return str(caught.value)


@pytest.mark.parametrize("tool", TOOLS)
def test_tools(root, tool, capsys):
  TOOLS[tool](root)
  dataset = _prepare(root, *(["--shapes_line_width", "2"] if tool == "CVAT" else []))
  labels = [dataset.read(number).label for number in range(3)]
  assert labels[0].tolist() == LABEL
  if tool == "CVAT":  # of a line from (6, 3) to (6, 4), 2 wide
    assert (labels[1] == 2).sum() == 6 and set(labels[1][2:5, 5:7].ravel()) == {2}
  else:
    assert labels[1].tolist() == LABEL
  assert labels[2] is None
  said = capsys.readouterr().out
  assert re.search(rf"{tool} (JSON|XML): 2 pictures with .*no shape are 'background'", said)
