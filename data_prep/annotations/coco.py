"""COCO's JSON: polygons, run lengths as numbers or as text, crowds."""

from collections.abc import Mapping, Sequence
from typing import Any

from data_prep.annotations import masks, outlines
from data_prep.annotations.shapes import Annotated, Shape

KIND = "COCO JSON"


def knows(content: Any) -> bool:
  """Whether a parsed file is of this kind."""
  return isinstance(content, dict) and "images" in content and "annotations" in content


def read(content: Mapping[str, Any], where: str) -> list[Annotated]:
  """The pictures of a file; KeyError, TypeError, ValueError when it is broken."""
  if any("segments_info" in annotation for annotation in content["annotations"]):
    raise ValueError("it is of panoptic segmentation, whose masks are PNG files of segments")
  names = {entry["id"]: str(entry["name"]) for entry in content.get("categories", ())}
  by_image: dict[Any, list[Shape]] = {image["id"]: [] for image in content["images"]}
  if len(by_image) < len(content["images"]):
    raise ValueError("two of its images have one id")
  for annotation in content["annotations"]:
    if annotation["image_id"] not in by_image:
      raise ValueError(f"it annotates an image {annotation['image_id']} that it does not list")
    if annotation["category_id"] not in names:
      raise ValueError(f"its categories have no id {annotation['category_id']}")
    by_image[annotation["image_id"]].append(_shape(annotation, names))
  return [
    Annotated(where, image["file_name"], _size(image), tuple(by_image[image["id"]]))
    for image in content["images"]
  ]


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
  if not (image.get("width") and image.get("height")):
    return None
  return int(image["height"]), int(image["width"])


def _shape(annotation: Mapping[str, Any], names: Mapping[Any, str]) -> Shape:
  found, crowd = annotation.get("segmentation"), bool(annotation.get("iscrowd", 0))
  name = names[annotation["category_id"]]
  if isinstance(found, Mapping):
    height, width = (int(side) for side in found["size"])
    return Shape(name, "mask", masks.Runs(found["counts"], (height, width), True), crowd)
  if not found:
    return Shape(name, "box without a mask", None, crowd)
  parts: Sequence[Any] = found if isinstance(found[0], Sequence) else [found]
  return Shape(name, "polygon", outlines.Rings(tuple((outlines.ring(p),) for p in parts)), crowd)
