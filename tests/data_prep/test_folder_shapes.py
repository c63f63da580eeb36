"""Annotation files in the place of masks: what each pixel becomes, and what is refused."""

import base64
import io
import json
import re
import zipfile
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


RUNS, TEXT = [27, 3, 2, 3, 5], "k03203"  # of the dog, the text by pycocotools 2.0.11


def coco(images=("a.png", "b.png"), segmentation=None, **changes):
  """The cats are polygons, the dogs run lengths, the second one as text."""
  shapes = [
    {"image_id": 7, "category_id": 3, "segmentation": segmentation or [_flat(CAT)]},
    {"image_id": 7, "category_id": 5, "segmentation": {"counts": RUNS, "size": [5, 8]}},
    {"image_id": 8, "category_id": 3, "segmentation": [_flat(CAT)], "iscrowd": 0},
    {"image_id": 8, "category_id": 5, "segmentation": {"counts": TEXT, "size": [5, 8]}},
  ]
  shapes = [shape for shape in shapes if shape["image_id"] < 7 + len(images)]
  shapes[0] |= changes
  return {
    "images": [
      {"id": 7 + i, "file_name": name, "width": 8, "height": 5} for i, name in enumerate(images)
    ],
    "categories": [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}],
    "annotations": shapes,
  }


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
<mask label="dog" rle="0, 2, 1, 2, 1, 2, 1" left="5" top="2" width="3" height="3"/></image>
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


def test_yolo_counts_the_classes_of_its_own_file(root, capsys):
  _yolo(root)
  assert _prepare(root, classes="classes.json").read(0).label.tolist() == LABEL
  lines = (root / "labels/a.txt").read_text()
  _write(root / "labels/a.txt", lines.replace("1 ", "0 ", 1))
  (root / "out").rename(root / "before")
  _fails(root, "1 shape has the number 0, which is 'background'.*data.yaml", classes="classes.json")
  assert "left out: no YOLO text: classes.txt" in capsys.readouterr().out


def test_a_broken_line_of_a_picture_is_an_error(root):
  _yolo(root)
  (root / "labels/a.txt").open("a").write("# checked\n")
  _fails(root, "a.txt has the name of picture 'a' and is no YOLO text", classes="classes.json")


@pytest.mark.parametrize("name", ["Background", "_background_", "BG"])
def test_a_background_is_known_under_its_usual_names(root, name):
  _write(root / "labels/x.json", coco())
  _write(root / "classes.txt", f"{name}\ncat\ndog\n")
  dataset = _prepare(root, "--shapes_rest", "background")
  assert dataset.info.classes == (name, "cat", "dog")
  assert dataset.read(0).label.tolist() == LABEL


def test_a_background_for_a_file_of_a_single_class(root):
  content = coco()
  content["categories"] = [{"id": 3, "name": "cat"}, {"id": 5, "name": "cat too"}]
  content["annotations"] = content["annotations"][::2]
  _write(root / "labels/x.json", content)
  _write(root / "one.json", {"categories": content["categories"][:1]})
  _fails(root, "1 class .cat.*--shapes_rest background", classes="one.json")
  dataset = _prepare(root, "--shapes_rest", "background", classes="one.json")
  assert dataset.info.classes == ("background", "cat") and dataset.info.source_ids == ()
  assert dataset.read(1).label.tolist() == (np.array(LABEL) == 1).tolist()


def test_the_rest_is_never_guessed(root):
  """6 + 6 of 40 pixels lie in a shape."""
  _write(root / "labels/x.json", coco())
  _write(root / "classes.txt", "cat\ndog\n")
  _fails(root, r"in no shape \(70 % of all\) have no class.*--shapes_rest background.*ignore")
  _fails(root, "--shapes_rest cow: no class", "--shapes_rest", "cow")
  ignored = np.array([255, 0, 1])[LABEL].tolist()
  assert _prepare(root, "--shapes_rest", "ignore").read(0).label.tolist() == ignored
  of_cats = np.array([0, 0, 1])[LABEL].tolist()
  assert _prepare(root, "--shapes_rest", "cat").read(0).label.tolist() == of_cats


def test_pictures_without_a_shape_are_never_guessed(root):
  content = coco()
  content["annotations"] = content["annotations"][:2]
  _write(root / "labels/x.json", content)
  _fails(root, "1 picture is listed without any shape, such as b.png.*--shapes_empty unlabeled")
  assert _prepare(root, "--shapes_empty", "unlabeled").read(1).label is None
  assert not _prepare(root, "--shapes_empty", "rest").read(1).label.any()
  assert _prepare(root, "--shapes_rest", "ignore").read(1).label is None


def test_shapes_of_unknown_classes_are_named(root):
  content = coco()
  content["categories"][0]["name"] = "lynx"
  _write(root / "labels/x.json", content)
  _fails(root, r"'lynx' \(2 shapes\): of no class .*background, cat, dog.*a.png.*x.json")
  ignored = np.array([0, 255, 2])[LABEL].tolist()
  assert _prepare(root, "--shapes_unknown", "ignore").read(0).label.tolist() == ignored
  left = np.array([0, 0, 2])[LABEL].tolist()
  assert _prepare(root, "--shapes_unknown", "leave").read(0).label.tolist() == left


def test_shapes_of_the_ignored_entry(root):
  content = coco()
  content["categories"][0]["name"] = "__ignore__"
  _write(root / "labels/x.json", content)
  _write(root / "classes.txt", "__ignore__\n_background_\ndog\n")
  assert _prepare(root).read(0).label.tolist() == np.array([0, 255, 1])[LABEL].tolist()


def test_crowds(root, capsys):
  _write(root / "labels/x.json", coco(iscrowd=1))
  assert _prepare(root).read(0).label.tolist() == np.array([0, 255, 2])[LABEL].tolist()
  assert "NOTE: 1 crowds are ignored" in capsys.readouterr().out
  assert _prepare(root, "--shapes_crowd", "class").read(0).label.tolist() == LABEL


WRONG = {
  "missing pictures": (coco(("a.png", "z.png")), "annotates z.png, which is no picture in "),
  "another size": (
    coco()
    | {
      "images": [{"id": 7 + i, "file_name": f, "width": 5, "height": 8} for i, f in enumerate("ab")]
    },
    "x.json: 5x8 pixels, its picture .*/photos/a.png 8x5",
  ),
  "a mask of another size": (
    coco(segmentation={"counts": RUNS, "size": [8, 5]}),
    "its mask has 5x8 pixels, the picture 8x5",
  ),
  "an unknown category": (
    coco(category_id=9),
    r"annotation 1: it is of category 9, which is none of the file's \(3 cat, 5 dog\)",
  ),
  "an image that is not listed": (coco(image_id=99), "an image 99 that the file does not list"),
  "half a point": (coco(segmentation=[[1, 1, 2, 2, 3]]), r"x.json: no COCO JSON as it should be"),
  "outside": (coco(segmentation=[[9, 1, 12, 1, 12, 3]]), "shape 1 of a.png, a polygon of 'cat'"),
  "twice": (coco(("a.png", "photos/a.png")), "a.png is annotated twice"),
  "panoptic": (coco(segments_info=[]), "x.json: panoptic segmentation of COCO"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_broken_coco(root, kind):
  content, message = WRONG[kind]
  _write(root / "labels/x.json", content)
  _fails(root, message)


def test_sizes_that_differ(root):
  _labelme(root)
  content = labelme() | {"imageWidth": 9}
  _write(root / "labels/a.json", content)
  _fails(root, r"labels/a.json: 9x5 pixels, its picture .*photos/a.png 8x5")


def test_boxes_and_shares_are_no_masks(root):
  content = coco()
  for annotation in content["annotations"]:
    annotation["segmentation"] = []
  _write(root / "labels/x.json", content)
  _fails(root, r"4 boxes without a mask \(the first in a.png of .*x.json\) are no masks")
  for annotation in content["annotations"]:
    annotation["segmentation"] = [[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]]
  _write(root / "labels/x.json", content)
  _fails(root, "all 4 polygons lie within the first pixel.*in pixels")


def test_annotated_pictures_that_are_missing_may_be_left(root, capsys):
  _write(root / "labels/x.json", coco(("a.png", "z.png")))
  dataset = _prepare(root, "--shapes_missing", "leave")
  assert dataset.info.labeled == (True, False, False)
  assert "NOTE: 1 annotated pictures are missing and left out: z.png" in capsys.readouterr().out


def test_overlapping_shapes(root):
  """The dog lies below a larger cat in COCO, and above it by the order of a file."""
  small, large = [_flat((1, 1, 2, 2))], [_flat((0, 0, 4, 4))]
  content = coco(("a.png",))
  content["annotations"] = [
    {"image_id": 7, "category_id": 5, "segmentation": small},
    {"image_id": 7, "category_id": 3, "segmentation": large},
  ]
  _write(root / "labels/x.json", content)
  assert _prepare(root).read(0).label[1, 1] == 2
  assert _prepare(root, "--shapes_order", "file").read(0).label[1, 1] == 1


def test_lines_and_points_need_a_width(root):
  shapes = [("cat", "linestrip", [[1.2, 1.5], [3.8, 1.5]]), ("dog", "point", [[6.5, 3.5]])]
  shapes += [("dog", "circle", [[1, 4], [1, 4.8]])]
  _write(root / "photos/a.json", labelme(shapes=shapes))
  _fails(root, "1 line, 1 point .*have no area.*--shapes_line_width", labels="photos/a.json")
  label = _prepare(root, "--shapes_line_width", "1", labels="photos").read(0).label
  rows = ["........", ".ccc....", "........", "dd....d.", "dd......"]
  assert ["".join(".cd"[i] for i in row) for row in label] == rows
  assert (_prepare(root, "--shapes_line_width", "0", labels="photos").read(0).label == 1).sum() == 0


def test_equal_names_in_several_folders(root):
  """The folder of a file of annotations, or of a picture in it, tells which one is meant."""
  for part in ("train", "valid"):
    (root / f"photos/{part}").mkdir()
    for name in "ab":
      (root / f"photos/{part}/{name}.png").write_bytes((root / "photos/a.png").read_bytes())
  for name in "abc":
    (root / f"photos/{name}.png").unlink()
  second = coco()
  second["annotations"] = second["annotations"][1::2]
  _write(root / "photos/train/_annotations.coco.json", coco())
  _write(root / "photos/valid/_annotations.coco.json", second)
  dataset = _prepare(root, labels="photos")
  assert dataset.info.lists["val"] == ("valid/a", "valid/b") and all(dataset.info.labeled)
  assert dataset.read(dataset.index("train/a")).label.tolist() == LABEL
  assert set(np.unique(dataset.read(dataset.index("valid/a")).label)) == {0, 2}
  names = [f"images/{part}/{name}.png" for part in ("train", "valid") for name in "ab"]
  _write(root / "labels/x.json", coco(names[::2]))
  dataset = _prepare(root)
  assert dataset.info.lists["labeled"] == ("train/a",) and dataset.info.lists["val"] == ("valid/a",)
  (root / "photos/a.png").write_bytes((root / "photos/train/a.png").read_bytes())
  _write(root / "labels/x.json", coco(["a.png"]))
  assert _prepare(root).info.lists["labeled"] == ("a",)
  (root / "out").rename(root / "before")
  (root / "photos/a.png").unlink()
  _write(root / "labels/x.json", coco())
  _fails(root, "x.json annotates a.png, which may be .*/train/a.png or .*/valid/a.png")


VOC = "<annotation><filename>a.png</filename><object><name>cat</name></object></annotation>"


def test_boxes_of_voc_are_no_masks(root):
  """Its masks are read, though boxes lie beside them."""
  _write(root / "Annotations/a.xml", VOC)
  _fails(
    root, "PASCAL VOC XML has boxes, which are no masks.*SegmentationClass", labels="Annotations"
  )
  _fails(root, "PASCAL VOC XML has boxes", labels="Annotations/a.xml")
  (root / "SegmentationClass").mkdir()
  Image.fromarray(np.array(LABEL, np.uint8)).save(root / "SegmentationClass/a.png")
  _fails(root, "--labels .*/SegmentationClass", labels="Annotations")
  _write(root / "SegmentationClass/a.xml", VOC)
  assert _prepare(root, labels="SegmentationClass").read(0).label.tolist() == LABEL


def test_pictures_below_the_annotations_are_no_masks(root):
  """Though they are links to elsewhere."""
  (root / ".elsewhere").mkdir()
  for name in "abc":
    (root / f"photos/{name}.png").rename(root / f".elsewhere/{name}.png")
    (root / f"photos/{name}.png").symlink_to(root / f".elsewhere/{name}.png")
  _write(root / "x.json", coco())
  assert _prepare(root, labels=".").read(0).label.tolist() == LABEL


def test_what_contradicts(root):
  _write(root / "labels/x.json", coco())
  _fails(root, "--label_values: for masks, and .* holds COCO JSON", "--label_values", "0", "1", "2")
  Image.fromarray(np.array(LABEL, np.uint8)).save(root / "labels/a.png")
  _fails(root, "labels holds COCO JSON and 1 file that may be masks, such as .*a.png")
  _write(root / "labels/b.json", labelme("b.png"))
  (root / "labels/a.png").unlink()
  _fails(root, "annotations of several kinds: labelme JSON .*b.json.*COCO JSON .*x.json")
  _write(root / "labels/readme.txt", "What lies here.")
  _fails(root, "readme.txt: no annotations of a known kind; give COCO", labels="labels/readme.txt")
  _write(root / "labels/b.json", "{")
  _fails(root, "b.json: broken .*export it again")
  with zipfile.ZipFile(root / "x.zip", "w") as file:
    file.writestr("annotations.xml", CVAT)
  _fails(root, "x.zip: a ZIP file; unpack it", labels="x.zip")
  _fails(root, "photos/a.png: cannot be read as text", labels="photos/a.png")
  _write(root / "track.xml", "<annotations><track/></annotations>")
  _fails(root, "of a video; export it as .CVAT for images", labels="track.xml")


def test_options_of_shapes_are_not_for_masks(root):
  (root / "labels").mkdir()
  Image.fromarray(np.array(LABEL, np.uint8)).save(root / "labels/a.png")
  _fails(root, "--shapes_rest: for labels that are shapes", "--shapes_rest", "ignore")


def test_blank_files_of_yolo_are_pictures_without_a_shape(root):
  _yolo(root)
  for number in range(9):
    _write(root / f"labels/a{number}.txt", "")
    (root / f"photos/a{number}.png").write_bytes((root / "photos/a.png").read_bytes())
  options = {"classes": "classes.json"}
  _fails(root, "9 pictures are listed without any shape, such as a0 in .*a0.txt", **options)
  dataset = _prepare(root, "--shapes_empty", "rest", **options)
  assert not dataset.read(dataset.index("a8")).label.any() and sum(dataset.info.labeled) == 11


def test_a_width_is_a_number_of_pixels(root, capsys):
  with pytest.raises(SystemExit):
    _prepare(root, "--shapes_line_width", "-1")
  assert "-1: give a number of pixels" in capsys.readouterr().err
