"""COCO's JSON: polygons, run lengths as numbers or as text, crowds."""

from collections.abc import Mapping
from typing import Any

from data_prep.annotations import fields as of
from data_prep.annotations import masks, outlines
from data_prep.annotations.shapes import Annotated, Shape

KIND = "COCO JSON"
_SHOWN = 8  # categories that a message lists


def knows(content: Any) -> bool:
  """Whether a parsed file is of this kind."""
  return isinstance(content, dict) and "images" in content and "annotations" in content


def has_keypoints(content: Any) -> bool:
  """Whether it is of people and their joints, who are in the file of instances, too."""
  return knows(content) and _some(content["annotations"], "keypoints")


def foreign(content: Any) -> str | None:
  """What a file of COCO without masks of its own holds; None when it is another."""
  if isinstance(content, dict) and "images" in content and "categories" in content:
    if "annotations" not in content:
      return "a list of images of COCO, without annotations"
  if knows(content) and _some(content["annotations"], "segments_info"):
    return "panoptic segmentation of COCO, whose masks are PNG files of segments"
  if knows(content) and _some(content["annotations"], "caption"):
    return "captions of COCO, which have no masks"
  if isinstance(content, list) and _some(content, "image_id") and not _some(content, "id"):
    return "results in the form of COCO, without the images"
  return None


def _some(annotations: Any, key: str) -> bool:
  return isinstance(annotations, list) and any(
    isinstance(each, Mapping) and key in each for each in annotations
  )


def read(content: Mapping[str, Any], where: str) -> list[Annotated]:
  """The pictures of a file; ValueError when it is broken."""
  names: dict[int | str, str] = {}
  if "categories" in content:
    names = dict(of.each(of.items(content, "categories"), "category", _category))
  images = of.each(of.items(content, "images"), "image", _image)
  by_image: dict[int | str, list[Shape]] = {id_: [] for id_, _, _ in images}
  if len(by_image) < len(images):
    raise ValueError("two of its images have one id")

  def add(annotation: Any) -> None:
    image = of.key(of.get(annotation, "image_id"), "image_id")
    if image not in by_image:
      raise ValueError(f"it is of an image {image} that the file does not list")
    category = of.key(of.get(annotation, "category_id"), "category_id")
    if category not in names:
      shown = ", ".join(f"{id_} {name}" for id_, name in list(names.items())[:_SHOWN])
      raise ValueError(f"it is of category {category}, which is none of the file's ({shown})")
    by_image[image] += _shapes(annotation, names[category])

  of.each(of.items(content, "annotations"), "annotation", add)
  return [Annotated(where, name, size, tuple(by_image[id_])) for id_, name, size in images]


def _category(entry: Any) -> tuple[int | str, str]:
  return of.key(of.get(entry, "id"), "id"), of.text(entry, "name")


def _image(entry: Any) -> tuple[int | str, str, tuple[int, int] | None]:
  id_, name = of.key(of.get(entry, "id"), "id"), of.text(entry, "file_name")
  return id_, name, of.size(entry.get("height"), entry.get("width"))


def _shapes(annotation: Mapping[str, Any], name: str) -> list[Shape]:
  """The shape of an annotation, and more where parts of it are no polygons."""
  found, crowd = annotation.get("segmentation"), of.is_set(annotation, "iscrowd")
  if isinstance(found, Mapping):
    height, width = (of.whole(side, "size", 1) for side in of.numbers(found.get("size"), "size", 2))
    runs = masks.Runs(masks.check_runs(of.get(found, "counts")), (height, width), True)
    return [Shape(name, "mask", runs, crowd)]
  if found is not None and not isinstance(found, list):
    raise ValueError(f"'segmentation' is {type(found).__name__} in place of polygons or a mask")
  if not found or _is_box(found, annotation.get("bbox")):
    return [Shape(name, "box without a mask", None, crowd)]
  parts = found if isinstance(found[0], list) else [found]
  shapes = [outlines.polygon(name, outlines.ring(part), crowd) for part in parts]
  rings = tuple(part for shape in shapes if shape.kind == "polygon" for part in shape.area.parts)
  whole = [Shape(name, "polygon", outlines.Rings(rings), crowd)] if rings else []
  return whole + [shape for shape in shapes if shape.kind != "polygon"]


def _is_box(found: list[Any], box: Any) -> bool:
  """Whether it is the box [x, y, width, height] in place of a polygon."""
  return bool(box) and found in (box, [box])
