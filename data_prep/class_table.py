"""The classes file of a data set, see `semiseg_jax.data.class_table`."""

from semiseg_jax.data.class_table import ClassTable, default_color, read_classes

__all__ = ["ClassTable", "default_color", "read_classes"]
