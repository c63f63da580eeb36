"""Labels of own pictures that are shapes in annotation files."""

import dataclasses
import pathlib
from collections.abc import Callable

from data_prep.annotations import meaning
from data_prep.annotations import options as shape_options
from data_prep.annotations.drawing import Rules
from data_prep.annotations.reading import Annotations
from data_prep.sources import folder_annotations
from data_prep.sources.folder_options import Source
from data_prep.sources.folder_pairs import Folders, Mask, Pairs, find_pairs
from semiseg_jax.data.class_table import ClassTable
from semiseg_jax.errors import DataError

_OF_MASKS = ("label_colors", "label_values", "merge_masks", "class_masks", "first_id")


@dataclasses.dataclass(frozen=True)
class Shapes:
  """Annotations, and how they become labels.

  Attributes:
    annotations: what was read.
    table: the classes, maybe with one of the pixels in no shape.
    rules: how shapes are drawn.
    options: those of the command.
  """

  annotations: Annotations
  table: ClassTable
  rules: Rules
  options: shape_options.ShapeOptions

  def find_pairs(self, where: Folders, wrong: list[str], say: Callable[[str], None]) -> Pairs:
    """The pictures, and the shapes of those that are annotated."""
    pairs = find_pairs(dataclasses.replace(where, labels=None), wrong, say)
    pictures = self.annotations.pictures
    wrong += [
      f"{where.labels}: {name} has the name of picture {pathlib.PurePath(name).stem!r} and is no "
      f"{self.annotations.kind}; mend it, or move it elsewhere"
      for name in self.annotations.left_out
      if name.endswith((".txt", ".json", ".xml")) and pathlib.PurePath(name).stem in pairs.pictures
    ]
    labeled = meaning.split_empty(pictures, self.options, wrong, say)
    found = folder_annotations.pair(labeled, pairs.pictures, where, self.options, wrong, say)
    masks = {id_: (Mask(pathlib.Path(each.where), ""),) for id_, each in found.items()}
    lists = pairs.lists or folder_annotations.split_lists(self.annotations, pairs.pictures, where)
    return dataclasses.replace(pairs, labels=masks, shapes=found, lists=lists)


def find_shapes(
  source: Source, table: ClassTable, wrong: list[str], say: Callable[[str], None]
) -> Shapes | None:
  """The shapes of `source.labels`; None when there are masks or nothing.

  Args:
    source: the options.
    table: the classes.
    wrong: gets a line on all that is wrong with the shapes.
    say: is told what they are taken for.

  Raises:
    DataError: options that do not go together.
  """
  annotations = folder_annotations.find_annotations(source.folders(), wrong, say)
  if annotations is None:
    if flags := shape_options.given(source.shapes):
      raise DataError(
        f"{' '.join(flags)}: for labels that are shapes, and these are not; leave out"
      )
    return None
  flags = [f"--{name}" for name in _OF_MASKS if getattr(source, name) not in (None, False)]
  if flags and not (flags == ["--first_id"] and annotations.kind == "YOLO text"):
    raise DataError(
      f"{' '.join(flags)}: for masks, and {source.labels} holds {annotations.kind}; leave out"
    )
  table = meaning.classes_with_rest(table, source.shapes)
  if len(table.names) == 1:
    raise DataError(
      f"classes file {source.classes}: 1 class ({table.names[0]}), from which there is nothing to "
      "tell apart; give --shapes_rest background, which is a class of the pixels in no shape"
    )
  rules = meaning.make_rules(annotations, table, source.shapes, wrong, say)
  return Shapes(annotations, table, rules, source.shapes)
