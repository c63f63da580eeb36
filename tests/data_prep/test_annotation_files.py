"""Annotation files of further tools, beside each other, and files that are no annotations."""

import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from data_prep import folder
from data_prep.annotations import outlines, reading, yolo
from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import DataError
from tests.data_prep import test_folder_shapes as tools

BOXES = {"cat": tools.CAT, "dog": tools.DOG}


def via(regions=None, attributes=lambda name: {"class": name}):
  """VIA's regions of one picture: a polygon and a box."""
  (left, top, right, bottom), (x, y, x1, y1) = tools.CAT, tools.DOG
  shapes = [
    {
      "name": "polygon",
      "all_points_x": [left, right, right, left],
      "all_points_y": [top, top, bottom, bottom],
    },
    {"name": "rect", "x": x, "y": y, "width": x1 - x, "height": y1 - y},
  ]
  found = [
    {"shape_attributes": shape, "region_attributes": attributes(name)}
    for name, shape in zip(BOXES, shapes)
  ]
  return {"a.png99": {"filename": "a.png", "size": 99, "regions": regions or found}}


def labelme_xml(name, more=""):
  """The XML of LabelMe on the web."""
  objects = "".join(
    f"<object><name>\n{label}\n</name><deleted>0</deleted><polygon><username>me</username>"
    + "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in tools._corners(box))
    + "</polygon></object>"
    for label, box in BOXES.items()
  )
  size = "<imagesize><nrows>5</nrows><ncols>8</ncols></imagesize>"
  return f"<annotation><filename>{name}.png</filename>{size}{objects}{more}</annotation>"


@pytest.fixture
def root(tmp_path):
  """Two pictures."""
  (tmp_path / "photos").mkdir()
  for name in "ab":
    Image.fromarray(np.full((5, 8, 3), ord(name), np.uint8)).save(tmp_path / f"photos/{name}.png")
  (tmp_path / "classes.txt").write_text(tools.CLASSES)
  return tmp_path


def _prepare(root, *options, labels="labels"):
  folder.main(
    [
      *("--images", f"{root}/photos", "--labels", f"{root}/{labels}", "--workers", "0"),
      *("--classes", f"{root}/classes.txt", "--out", f"{root}/out", "--overwrite", *options),
    ]
  )
  return Dataset.open(root / "out")


def _read(root, name, content):
  """What the folder of this one file holds."""
  tools._write(root / f"labels/{name}", content)
  return reading.read_folder(sorted((root / "labels").rglob("*.*")), [])


def _refused(root, name, content, message):
  path = root / f"labels/{name}"
  tools._write(path, content)
  with pytest.raises(DataError, match=message) as caught:
    reading.refuse_others([path], f"{root}/labels")
  assert "\n" not in str(caught.value)
  path.unlink()


def test_via(root):
  regions = via()["a.png99"]["regions"]
  contents = [
    via(),
    {"_via_settings": {}, "_via_img_metadata": via()},
    via({str(number): region for number, region in enumerate(regions)}),
    via(attributes=lambda name: {"animal": {name: True, "horse": False}}),
    via(attributes=lambda name: {"Class": name, "color": "gray"}),
  ]
  for content in contents:
    (each,) = _read(root, "via.json", content).pictures
    assert [shape.label for shape in each.shapes] == ["cat", "dog"] and each.picture == "a.png"
  dataset = _prepare(root)
  assert dataset.read(0).label.tolist() == tools.LABEL and dataset.info.labeled == (True, False)
  two = via(attributes=lambda name: {"animal": {"cat": True, "dog": True}})
  tools._write(root / "labels/via.json", two)
  with pytest.raises(DataError, match="region 1: 'animal' is empty, which is no text"):
    reading.read_file(root / "labels/via.json")
  for attributes, message in (({}, r"attributes \(none\)"), ({"x": 1, "y": 2}, r"\(x, y\)")):
    tools._write(root / "labels/via.json", via(attributes=lambda name, a=attributes: a))
    with pytest.raises(DataError, match=f"picture 1: region 1: its .*{message} do not say its cla"):
      reading.read_file(root / "labels/via.json")


def test_labelme_of_the_web(root):
  deleted = "<object><name>cow</name><deleted>1</deleted><polygon/></object>"
  tools._write(root / "labels/a.xml", labelme_xml("a", deleted))
  tools._write(root / "labels/b.xml", "<annotation><filename>b.png</filename></annotation>")
  dataset = _prepare(root, "--shapes_empty", "rest")
  assert dataset.read(0).label.tolist() == tools.LABEL and not dataset.read(1).label.any()


def test_polygons_of_voc_and_boxes_beside_them(root):
  points = "".join(
    f"<x{i}>{x}</x{i}><y{i}>{y}</y{i}>" for i, (x, y) in enumerate(tools._corners(tools.CAT), 1)
  )
  box = "<object><name>dog</name><bndbox><xmin>1</xmin></bndbox></object>"
  text = f"<annotation><filename>a.png</filename><object><name>cat</name><polygon>{points}"
  (each,) = _read(root, "a.xml", f"{text}</polygon></object>{box}</annotation>").pictures
  assert [shape.kind for shape in each.shapes] == ["polygon", "box without a mask"]
  assert each.shapes[0].area.parts[0][0].tolist() == tools._corners(tools.CAT)


def test_files_of_coco_without_masks_are_left_out(root):
  """COCO publishes five files of the same pictures."""
  content = tools.coco()
  joints = [each | {"keypoints": [1, 1, 2]} for each in content["annotations"]]
  captions = [{"image_id": 7, "id": 1, "caption": "a cat"}]
  segments = [{"image_id": 7, "file_name": "a.png", "segments_info": []}]
  others = {
    "captions.json": content | {"annotations": captions},
    "image_info.json": {key: content[key] for key in ("images", "categories")},
    "panoptic.json": content | {"annotations": segments},
    "results.json": [{"image_id": 7, "category_id": 3, "score": 0.5}],
  }
  for name, each in others.items():
    _refused(root, name, each, f"{name}: (captions|a list of images|panoptic|results).*instances")
    tools._write(root / f"labels/{name}", each)
  tools._write(root / "labels/person_keypoints.json", content | {"annotations": joints})
  assert len(reading.read_file(root / "labels/person_keypoints.json").pictures) == 2
  found = _read(root, "instances.json", content)
  assert {each.where for each in found.pictures} == {f"{root}/labels/instances.json"}
  assert [note.rpartition("/")[2].split(" is left out: ")[0] for note in found.notes] == [
    *sorted(others),
    "person_keypoints.json",
  ]


def test_two_files_of_the_same_pictures_are_named_once(root):
  for name in ("instances", "stuff"):
    tools._write(root / f"labels/{name}.json", tools.coco())
  with pytest.raises(SystemExit, match="a.png is annotated twice.*as 1 others are; give one of th"):
    _prepare(root)


@pytest.mark.parametrize(
  "first,second,lists",
  [
    ("instances_train2017", "instances_val2017", {"train": ("a",), "val": ("b",)}),
    ("valid/_annotations.coco", "train/_annotations.coco", {"train": ("b",), "val": ("a",)}),
    ("training", "test", {"train": ("a",), "test": ("b",)}),
    ("one", "two", {"train": ("a", "b")}),
    ("train", "b", {"train": ("a", "b")}),
    ("a", "val", {"train": ("a",), "val": ("b",)}),
    ("train_and_val", "test", {"train": ("a",), "test": ("b",)}),
    ("val", "test", {"train": ("a", "b")}),
  ],
)
def test_names_of_files_make_lists(root, first, second, lists):
  tools._write(root / f"labels/{first}.json", tools.coco(["a.png"]))
  tools._write(root / f"labels/{second}.json", tools.coco(["b.png"]))
  found = _prepare(root).info.lists
  assert {name: ids for name, ids in found.items() if name != "labeled"} == lists


def test_a_list_that_is_given_goes_before_names_of_files(root):
  tools._write(root / "labels/train.json", tools.coco(["a.png"]))
  tools._write(root / "labels/val.json", tools.coco(["b.png"]))
  (root / "val.txt").write_text("a\n")
  assert _prepare(root, "--list", f"val={root}/val.txt").info.lists["val"] == ("a",)


def test_polygons_of_two_points_are_lines(root):
  """Of COCO, labelme, CVAT, Supervisely; a box in the place of a polygon is a box."""
  line = [1, 1, 6, 1]
  content = tools.coco(segmentation=[line, tools._flat(tools.CAT)], bbox=[0, 0, 6, 4])
  kinds = [shape.kind for shape in _read(root, "x.json", content).pictures[0].shapes]
  assert kinds == ["polygon", "polygon of 2 points", "mask"]
  with pytest.raises(SystemExit, match=r"1 polygon of 2 points \(.*have no area; give --shapes_li"):
    _prepare(root)
  label = _prepare(root, "--shapes_line_width", "0").read(0).label
  assert label.tolist() == tools.LABEL
  content = tools.coco(segmentation=[line], bbox=line)
  assert _read(root, "x.json", content).pictures[0].shapes[0].kind == "box without a mask"
  content = tools.coco(segmentation=[[1, 1, 6, 1, 1, 1]])
  assert _read(root, "x.json", content).pictures[0].shapes[0].kind == "polygon of 2 points"
  (root / "labels/x.json").unlink()
  two = [[1, 1], [6, 1]]
  shapes = [("cat", "polygon", two), ("cat", "polygon", two[:1]), ("cat", "circle", two[:1] * 2)]
  kinds = [s.kind for s in _read(root, "a.json", tools.labelme(shapes=shapes)).pictures[0].shapes]
  assert kinds == ["polygon of 2 points", "polygon of 1 point", "circle without a radius"]
  assert isinstance(outlines.polygon("x", outlines.ring(two)).area, outlines.Line)


def _yolo(line):
  return yolo.read([line], "a.txt")


@pytest.mark.parametrize(
  "line,kind",
  [
    ("0 0.5 0.5 0.2 0.2", "box without a mask"),
    ("0 0.5 0.5 0.2 0.2 0.9", "box with a confidence"),
    ("0 0.5 0.5 0.2 0.2 0.45 0.45 2", "box with joints"),
    ("0 0.5 0.5 0.2 0.2 0.45 0.45 2 0.55 0.5 1", "box with joints"),
    ("0 0.5 0.5 0.2 0.2 0.45 0.45 1 0 0 0", "box with joints"),
    ("0 0 0 1 0 1 1 0 1 0 0", "polygon"),
    ("0 0.1 0.1 0.9 0.1 0.5 0.9", "polygon"),
  ],
)
def test_lines_of_yolo(line, kind):
  assert _yolo(line)[0].shapes[0].kind == kind


@pytest.mark.parametrize(
  "line,message",
  [
    ("0 0.1 0.1 0.9 0.1 0.5 0.9 0.87", "line 1: 7 numbers after the class, which are no pairs"),
    ("0 10 10 90 10 50 90", "90 in a line of shares"),
    ("0 -9 0.1 0.9 0.1 0.5 0.9", "9 in a line of shares"),
  ],
)
def test_lines_of_yolo_that_are_no_polygons(line, message):
  with pytest.raises(ValueError, match=message):
    _yolo(line)


def test_boxes_with_points_are_no_polygons(root):
  """Whether lines are poses is only seen of all: each begins with a box that holds its joints."""
  poses = [f"0 0.5 0.5 0.2 0.{n} 0.45 0.45 0.55 0.52\n" for n in (2, 3, 4)]
  with pytest.raises(DataError, match="all 3 lines have 8 numbers.*holds the other 2 points.*COCO"):
    _read(root, "a.txt", "".join(poses))
  polygon = "0 0.1 0.1 0.9 0.1 0.9 0.9 0.1 0.9\n"
  assert not _read(root, "a.txt", "".join([*poses, polygon])).notes
  triangle = "0 0.5 0.5 0.2 0.2 0.45 0.45\n"
  (note,) = _read(root, "a.txt", triangle + polygon).notes
  assert "1 line of six numbers drawn as a triangle" in note and "a.txt" in note


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-8-sig"])
def test_text_of_windows(root, encoding):
  (root / "labels").mkdir()
  for name, text in (("x.json", json.dumps(tools.coco())), ("y.xml", tools.CVAT)):
    (root / f"labels/{name}").write_bytes(text.encode(encoding))
    assert len(reading.read_file(root / f"labels/{name}").pictures) == 2


FOREIGN = {
  "Label Studio": ([{"id": 1, "data": {}, "annotations": []}], "Label Studio JSON; .*Brush labels"),
  "VIA 3": ({"project": {}, "file": {}, "metadata": {}}, "VIA 3 JSON; export COCO JSON"),
  "GeoJSON": ({"type": "FeatureCollection", "features": []}, "GeoJSON; burn it into label images"),
  "Cityscapes": ({"imgHeight": 1, "imgWidth": 1, "objects": []}, "polygons of Cityscapes; .*scrip"),
  "Labelbox": ([{"data_row": {}, "projects": {}}], "Labelbox JSON; export"),
  "CreateML": ([{"image": "a.png", "annotations": []}], "CreateML JSON, which has boxes"),
  "cut off": (
    json.dumps(tools.coco())[:-30],
    r"broken \(no JSON from line 1, column \d+ on, or cut",
  ),
  "unknown": ({"what": 1}, "no annotations of a known kind; give COCO JSON.*a folder of masks"),
  "nothing": ([], r"labels holds neither masks nor .*1 .json \(such as x.json\); give COCO"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_not_read_is_named(root, kind):
  _refused(root, "x.json", *FOREIGN[kind])


def test_other_files_are_counted(root):
  (root / "labels").mkdir()
  for name in ("a.csv", "b.csv", "c.ndjson"):
    (root / f"labels/{name}").write_text("a,b")
  with pytest.raises(
    SystemExit, match=r"neither masks nor .*, but 2 .csv, 1 .ndjson \(such as a.c"
  ):
    _prepare(root)


def test_files_beside_pictures_do_not_stand_in_the_way_of_masks(root):
  (root / "photos/notes.json").write_text('{"what"')
  for name in "ab":
    Image.fromarray(np.array(tools.LABEL, np.uint8)).save(root / f"photos/{name}_mask.png")
  with pytest.raises(SystemExit, match="cannot be told apart; give --label_suffix"):
    _prepare(root, labels="photos")
  (root / "photos/a_mask.png").unlink()
  (root / "photos/b_mask.png").unlink()
  tools._write(root / "photos/tasks.json", FOREIGN["Label Studio"][0])
  with pytest.raises(SystemExit, match="photos/tasks.json: Label Studio JSON"):
    _prepare(root, labels="photos")


CHANGED = {
  "ids as text": ({"image_id": "7", "category_id": "3"}, None),
  "ids as floats": ({"image_id": 7.0, "category_id": 3.0}, None),
  "no category": ({"category_id": None}, "annotation 1: 'category_id' is empty, which is no id"),
  "words for crowds": ({"iscrowd": "no"}, "annotation 1: 'iscrowd' is 'no', which is no number"),
  "half a point": ({"segmentation": [[1, 1, 2]]}, "annotation 1: 3 numbers, which are no pairs"),
  "words": ({"segmentation": [["a", "b"]]}, "annotation 1: points that are no pairs of numbers"),
  "infinite": ({"segmentation": [[1, 1, 1e300, 1, 1, 3]]}, "annotation 1: points whose numbers ar"),
  "halves of runs": (
    {"segmentation": {"counts": [0.5, 39.5], "size": [5, 8]}},
    "annotation 1: run lengths .'counts'. that are no whole numbers",
  ),
}


@pytest.mark.parametrize("kind", CHANGED)
def test_values_of_coco(root, kind):
  changes, message = CHANGED[kind]
  if message is None:
    found = _read(root, "x.json", tools.coco(**changes))
    assert [shape.label for shape in found.pictures[0].shapes] == ["cat", "dog"]
    return
  with pytest.raises(DataError, match=f"x.json: no COCO JSON as it should be: {message}"):
    _read(root, "x.json", tools.coco(**changes))


def test_a_size_that_no_memory_holds(root):
  content = tools.coco(["a.png"])
  content["images"][0] |= {"width": 10**6, "height": 10**6}
  tools._write(root / "labels/x.json", content)
  with pytest.raises(SystemExit, match="1000000x1000000 pixels, its picture .*a.png 8x5"):
    _prepare(root)


def test_addresses_of_pictures(root):
  names = ["https://host/folder/a.png?raw=1", "file:///C:/my%20pictures/b.png"]
  tools._write(root / "labels/x.json", tools.coco(names))
  assert all(_prepare(root).info.labeled)


def test_rectangles_may_be_boxes(root, capsys):
  content = tools.coco(["a.png"])
  box = {"image_id": 7, "category_id": 3, "segmentation": [tools._flat(tools.CAT)]}
  content["annotations"] = [box] * 8
  tools._write(root / "labels/x.json", content)
  _prepare(root)
  assert "NOTE: all 8 polygons are upright rectangles" in capsys.readouterr().out
  content["annotations"] = [*[box] * 8, box | {"segmentation": [[1, 1, 4, 1, 4, 3]]}]
  tools._write(root / "labels/x.json", content)
  _prepare(root)
  assert "upright" not in capsys.readouterr().out


def test_annotations_beside_pictures_are_named(root, capsys):
  tools._write(root / "photos/a.json", tools.labelme())
  options = ["--images", f"{root}/photos", "--classes", f"{root}/classes.txt", "--workers", "0"]
  folder.main([*options, "--out", f"{root}/out"])
  said = capsys.readouterr().out
  assert f"photos/a.json has annotations, which are not read; give --labels {root}/photos" in said


def test_names_of_label_studio(root, capsys):
  tools._write(root / "labels/x.json", tools.coco(["images/0a1b2c3d-a.png", "b.png"]))
  assert _prepare(root).read(0).label.tolist() == tools.LABEL
  assert "1 picture is found without what Label Studio puts" in capsys.readouterr().out
  tools._write(root / "labels/x.json", tools.coco(["0a1b2c3d-z.png"]))
  with pytest.raises(SystemExit, match="annotates 0a1b2c3d-z.png, which is no picture"):
    _prepare(root)


def test_a_part_of_a_zip_file_is_named(tmp_path):
  path = tmp_path / "x.zip"
  with zipfile.ZipFile(path, "w") as archive:
    archive.writestr("a.json", "{}")
  data = path.read_bytes()
  end = data.index(b"PK\5\6")
  on_three_disks = bytes(56) + b"PK\6\7" + bytes(12) + b"\3\0\0\0"
  path.write_bytes(data[:end] + on_three_disks + data[end:])
  with pytest.raises(DataError, match="x.zip: a ZIP file; unpack it"):
    reading.read_file(path)
