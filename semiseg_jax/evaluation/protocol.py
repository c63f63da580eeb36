"""How pictures are cut into windows, and which network labels them."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from semiseg_jax.data.dataset import Dataset
from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation import published
from semiseg_jax.evaluation.bands import Classify
from semiseg_jax.evaluation.canvases import Grid
from semiseg_jax.evaluation.cropped import Cropped
from semiseg_jax.evaluation.placing import BORDERS
from semiseg_jax.evaluation.windows import ClassGate, Forward, Segmenter, Size, default_stride

MODES = ("whole", "slide", "center_crop", "resize_to_multiple")
WHOLE = ("padded", "as_is", "reflected")
SUMMED = ("logits", "probabilities")
LOWEST_SCALE, HIGHEST_SCALE = 0.1, 10.0  # of views; below, nothing of a picture is left
_MOST = 2**16  # windows in a batch, pixels of their sides
# What the modes do, and the fields that they alone have.
_ABOUT = {
  "whole": "sees each picture at once",
  "slide": "has windows of one size",
  "center_crop": "sees the middle of each picture, as large as the window",
  "resize_to_multiple": "sees each picture at once, resized",
}
_OWN = {
  "whole": ("whole", "multiple"),
  "slide": ("window", "stride", "border"),
  "center_crop": ("window",),
  "resize_to_multiple": ("multiple",),
}


@dataclasses.dataclass(frozen=True)
class Protocol:
  """What an evaluation result must state to be repeated.

  mode: 'whole' (the network sees the picture at once), 'slide' (windows of one size), 'center_crop'
  (only the middle of pictures and labels counts) or 'resize_to_multiple' (the picture is resized to
  the nearest multiple along each side, and the logits back, with aligned corners).
  window, stride: (height, width), of 'slide'; the window also of 'center_crop'.  batch: windows per
  call of the network, which changes speed only.  network: an index, several such as '0,2', or
  'mean' of all.  stack: which networks, '' = those that train.  scales, flip: windows, or whole
  pictures, are seen at these scales, and mirrored too.  whole: pictures of that mode are 'padded'
  to sizes like those of training and cut, seen 'as_is', or 'reflected' at the border to multiples;
  windows are as they are.  border: what becomes of the last windows, see `placing.BORDERS`.
  summed: 'logits' or 'probabilities' are added where windows, views or networks meet; '' = logits
  of one network and view, otherwise probabilities.  multiple: of 'resize_to_multiple' and of
  'reflected'.  several_sizes: 'padded' where whole pictures are padded as soon as they are of
  several sizes, whatever `mode` and `whole` do with those of one; '' = they are not.
  """

  mode: str
  window: Size | None
  stride: Size | None
  batch: int
  network: str
  stack: str = ""
  scales: tuple[float, ...] = (1.0,)
  flip: bool = False
  whole: str = "as_is"
  border: str = "shifted"
  summed: str = ""
  multiple: int = 0
  several_sizes: str = ""

  @property
  def adds(self) -> str:
    """What is added, 'logits' or 'probabilities'."""
    return self.summed or usually_summed(self.network, self.scales, self.flip)

  def views(self, *, probabilities: bool = False) -> dict[str, Any]:
    """The last arguments of `inference.make_scores`; `probabilities`: whatever is added here."""
    return {
      "scales": self.scales,
      "flip": self.flip,
      "multiple": self.multiple if self.mode == "resize_to_multiple" else 0,
      "summed": "probabilities" if probabilities else self.adds,
    }

  def scored(self, dataset: Dataset) -> Dataset | Cropped:
    """The dataset, or the middle of its pictures, as they are scored."""
    return Cropped(dataset, self.window) if self.mode == "center_crop" else dataset

  def pixels(self, height: int, width: int) -> int:
    """How many pixels a network sees of a picture, about; each as often as it is seen."""
    views = sum(scale * scale for scale in self.scales) * (2 if self.flip else 1)
    if self.window is None:
      return round(height * width * views)
    steps = zip((height, width), self.window, self.stride or self.window)
    count = math.prod(1 + max(0, -(-(side - window) // stride)) for side, window, stride in steps)
    once = 1 if self.mode == "center_crop" else count
    return round(once * math.prod(self.window) * views)

  def segmenter(
    self,
    forward: Forward,
    num_classes: int,
    *,
    grid: Grid | None = None,
    devices: int = 1,
    confidence: bool = False,
    probabilities: bool = False,
    gate: ClassGate | None = None,
    classify: Classify | None = None,
  ) -> Segmenter:
    """A segmenter by this protocol; its batch is rounded up to a multiple of `devices`.

    `forward`: of the scores with these `views`, best an `inference.Forward`.  `grid`: of the
    networks, see `inference.grid`; it is needed where pictures are padded.
    """
    is_padded = self.whole == "padded" or self.several_sizes == "padded"
    if is_padded and grid is None:
      raise ValueError("padded pictures need the grid of the networks, see inference.grid")
    batch = -(-self.batch // devices) * devices
    return Segmenter(
      forward,
      window=self.window,
      stride=self.stride,
      border=self.border,
      grid=grid if self.whole == "padded" else None,
      several=grid if self.several_sizes else None,
      reflected=self.multiple if self.whole == "reflected" else 0,
      batch=batch,
      num_classes=num_classes,
      confidence=confidence,
      probabilities=probabilities,
      gate=gate,
      classify=classify,
      low=getattr(forward, "low", None),
    )

  def as_dict(self) -> dict[str, Any]:
    """For a result file: all fields but the batch; `summed` says what is added."""
    fields = {**dataclasses.asdict(self), "scales": list(self.scales), "summed": self.adds}
    del fields["batch"]
    return fields

  @property
  def name(self) -> str:
    """Short, fit for a file name: `network_0_slide_800x800_stride_534x534`."""
    parts = [f"{self.stack or 'network'}_{self.network.replace(',', '-')}", self.mode]
    if self.window:
      parts.append("x".join(map(str, self.window)))
    if self.stride:
      parts.append("stride_" + "x".join(map(str, self.stride)))
    parts += [x for x, usual in ((self.whole, "as_is"), (self.border, "shifted")) if x != usual]
    parts += [str(self.multiple)] * bool(self.multiple)
    if self.scales != (1.0,):
      parts.append("scales_" + "_".join(f"{scale:g}" for scale in self.scales))
    return "_".join([*parts, *["flip"] * self.flip, *[self.summed] * bool(self.summed)])


def networks_of(network: str, count: int) -> tuple[int, ...]:
  """Returns the indices that 'mean', '1' or '0,2' choose of so many networks.

  Raises:
    ConfigError: one that is not there, or is named twice.
  """
  parts = network.split(",")
  named = tuple(int(part) for part in parts if part.isdecimal())
  if network == "mean":
    return tuple(range(count))
  if len(named) < len(parts) or len({*named}) < len(parts) or max(named) >= count:
    several = ", or several such as '0,1'" if count > 1 else ""
    raise ConfigError(f"network={network!r}: 0 to {count - 1}, or 'mean'{several}.")
  return named


def usually_summed(network: str, scales: Sequence[float], flip: bool) -> str:
  """Returns what is added where nothing is said: logits of one network and view alone."""
  alone = network.isdigit() and list(scales) == [1.0] and not flip
  return "logits" if alone else "probabilities"


def from_config(
  config: ConfigDict,
  *,
  network: str | None = None,
  batch: int | None = None,
  protocol: str | None = None,
  **given: Any,
) -> Protocol:
  """The protocol of a config's `eval` block; what is given here goes before it.

  A window, stride or border given without a mode means 'slide', and the stride is 2/3 of a window
  that is given unless it is given too; `whole` without a mode means 'whole', and `multiple`
  'resize_to_multiple'.

  Args:
    config: the block.
    network, batch: see `Protocol`.
    protocol: a name of `published.PROTOCOLS`, which says all but these two.
    **given: mode, whole, window, stride, border, multiple, summed, scales, flip; None: not given.

  Raises:
    ConfigError: an unknown protocol or mode, an impossible batch, window or multiple, or what
      another mode has.
  """
  if unknown := given.keys() - _FIELDS:
    raise TypeError(f"a protocol has no {', '.join(sorted(unknown))}")
  given = {name: value for name, value in given.items() if value is not None}
  if protocol:
    given = _published(protocol, given)
  mode = given.pop("mode", None) or _implied(given) or config.mode
  network, batch = network or str(config.network), config.batch if batch is None else batch
  if mode not in MODES:
    raise ConfigError(f"evaluation mode {mode!r}: one of {MODES}")
  if not 1 <= batch <= _MOST:
    raise ConfigError(
      f"evaluation batch {batch}: at least 1 window per call of the network, at most {_MOST}"
    )
  _check_own(mode, given)
  scales, flip = tuple(given.get("scales", config.scales)), given.get("flip", config.flip)
  summed = given.get("summed", config.summed)
  if summed not in ("", *SUMMED):
    raise ConfigError(f"summed are {summed!r}: one of {SUMMED}")
  summed = "" if summed == usually_summed(network, scales, flip) else summed
  return Protocol(
    mode=mode,
    batch=batch,
    network=network,
    stack=config.stack,
    scales=scales,
    flip=flip,
    summed=summed,
    **_geometry(mode, config, given),
  )


_FIELDS = {*sum(_OWN.values(), ()), "mode", "summed", "scales", "flip"}


def to_label(config: ConfigDict, **given: Any) -> Protocol:
  """As `from_config`, for labels of whole pictures: ConfigError where only the middle is seen."""
  how = from_config(config, **given)
  if how.mode == "center_crop":
    raise ConfigError(
      "mode 'center_crop' scores the middle of pictures and labels nothing else: choose "
      "--mode=whole or --mode=slide to label pictures."
    )
  return how


def for_new_pictures(config: ConfigDict, **given: Any) -> Protocol:
  """As `to_label`, but whole pictures of several sizes are padded unless something else is asked.

  A run that is evaluated 'as_is', 'reflected' or resized needs a program for each size, which new
  pictures have many of.  `whole`, `multiple`, `protocol` and mode 'resize_to_multiple' ask.
  """
  return _padded_unless_asked(to_label(config, **given), given)


def for_scored_folder(config: ConfigDict, **given: Any) -> Protocol:
  """As `from_config`, but as `for_new_pictures` for what labels whole pictures."""
  return _padded_unless_asked(from_config(config, **given), given)


def _padded_unless_asked(how: Protocol, given: dict[str, Any]) -> Protocol:
  asked = any(given.get(name) for name in ("whole", "multiple", "protocol"))
  asked = asked or given.get("mode") == "resize_to_multiple"
  if how.window is not None or how.whole == "padded" or asked:
    return how
  return dataclasses.replace(how, several_sizes="padded")


def _published(name: str, given: dict[str, Any]) -> dict[str, Any]:
  if given:
    flags = ", ".join(f"--{flag}" for flag in given)
    raise ConfigError(
      f"--protocol={name} says how pictures are seen: leave out {flags}, or leave out --protocol "
      "and give all yourself."
    )
  return dict(published.find(name).fields)


def _implied(given: dict[str, Any]) -> str | None:
  """The mode that what is given belongs to, where no mode is given."""
  if {"window", "stride", "border"} & given.keys():
    return "slide"
  if "whole" in given:
    return "whole"
  return "resize_to_multiple" if "multiple" in given else None


def _check_own(mode: str, given: dict[str, Any]) -> None:
  for name in sorted(given.keys() & {*sum(_OWN.values(), ())} - {*_OWN[mode]}):
    others = " or ".join(repr(other) for other in MODES if name in _OWN[other])
    raise ConfigError(f"mode {mode!r} {_ABOUT[mode]}, and has no {name}; mode {others} has")


def _geometry(mode: str, config: ConfigDict, given: dict[str, Any]) -> dict[str, Any]:
  """The fields that depend on the mode."""
  if mode in ("slide", "center_crop"):
    window = tuple(given.get("window", config.window))
    if max(window) > _MOST:
      raise ConfigError(f"window {window[0]}x{window[1]}: sides of at most {_MOST} pixels")
    if mode == "center_crop":
      return {"window": window, "stride": None}
    border = given.get("border", config.border)
    if border not in BORDERS:
      raise ConfigError(f"the last windows are {border!r}: one of {BORDERS}")
    stride = given.get("stride") or ((0, 0) if "window" in given else tuple(config.stride))
    stride = tuple(one or usual for one, usual in zip(stride, default_stride(window)))
    return {"window": window, "stride": stride, "border": border}
  whole = given.get("whole", config.whole) if mode == "whole" else "as_is"
  if whole not in WHOLE:
    raise ConfigError(f"whole pictures are {whole!r}: one of {WHOLE}")
  multiple = given.get("multiple", config.multiple)
  if mode == "whole" and whole != "reflected":
    if "multiple" in given:
      raise ConfigError(f"multiple={multiple}: whole pictures that are 'reflected' have one")
    multiple = 0
  elif not 1 <= multiple <= _MOST:
    what = "'reflected' pictures" if mode == "whole" else "mode 'resize_to_multiple'"
    raise ConfigError(
      f"multiple={multiple}: {what} take one from 1 to {_MOST}, such as --multiple=8 "
      "(eval.multiple=8 in a config)"
    )
  return {"window": None, "stride": None, "whole": whole, "multiple": multiple}
