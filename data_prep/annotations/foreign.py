"""Annotation files that are not read, known by their content, and which export of them is."""

from collections.abc import Mapping
from typing import Any

from data_prep.annotations import coco

_COCO = "give the file of instances"
_BY_KEYS: tuple[tuple[frozenset[str], str, str], ...] = (
  (
    frozenset(("imgHeight", "imgWidth", "objects")),
    "polygons of Cityscapes",
    "make label images of them with cityscapesscripts",
  ),
  (frozenset(("type", "features")), "GeoJSON", "burn it into label images"),
  (frozenset(("project", "file", "metadata")), "VIA 3 JSON", "export COCO JSON from VIA 2"),
  (frozenset(("asset", "regions")), "VoTT JSON", "export COCO JSON"),
  (frozenset(("assets", "name")), "a project of VoTT", "export COCO JSON"),
  (frozenset(("dataset", "item", "annotations")), "Darwin JSON of V7", "export COCO JSON"),
  (frozenset(("item", "annotations")), "Darwin JSON of V7", "export COCO JSON"),
  (frozenset(("data_row", "projects")), "Labelbox JSON", "export masks or COCO JSON"),
)
_BY_ENTRY_KEYS: tuple[tuple[frozenset[str], str, str], ...] = (
  (
    frozenset(("data", "annotations")),
    "Label Studio JSON",
    "export COCO (polygons) or Brush labels to PNG from it",
  ),
  (
    frozenset(("data", "completions")),
    "Label Studio JSON",
    "export COCO (polygons) or Brush labels to PNG from it",
  ),
  (
    frozenset(("annotation_id", "annotator")),
    "Label Studio JSON-MIN",
    "export COCO (polygons) or Brush labels to PNG from it",
  ),
  (frozenset(("Labeled Data", "Label")), "Labelbox JSON", "export masks or COCO JSON"),
  (frozenset(("data_row", "projects")), "Labelbox JSON", "export masks or COCO JSON"),
  (frozenset(("image", "annotations")), "CreateML JSON, which has boxes", "export COCO JSON"),
  (frozenset(("name", "labels")), "Scalabel JSON", "export COCO JSON"),
)


def name(content: Any) -> tuple[str, str] | None:
  """What a parsed file is, and what to do instead; None when it is of no known kind."""
  if of_coco := coco.foreign(content):
    return of_coco, _COCO
  entries, table = [content], _BY_KEYS
  if isinstance(content, list):
    entries, table = content, _BY_ENTRY_KEYS
  if not entries or not all(isinstance(entry, Mapping) for entry in entries):
    return None
  for keys, kind, mend in table:
    if all(keys <= entry.keys() for entry in entries):
      return kind, mend
  if table is _BY_KEYS and {"data", "annotations"} <= content.keys():
    return _BY_ENTRY_KEYS[0][1:]
  return None
