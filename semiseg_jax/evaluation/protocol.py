"""How pictures are cut into windows, and which network labels them."""

import dataclasses
from typing import Any

from ml_collections import ConfigDict

from semiseg_jax.errors import ConfigError
from semiseg_jax.evaluation.bands import Classify
from semiseg_jax.evaluation.canvases import Grid
from semiseg_jax.evaluation.windows import ClassGate, Forward, Segmenter, Size, default_stride

MODES = ("whole", "slide")
WHOLE = ("padded", "as_is")
_MOST = 2**16  # windows in a batch, pixels of their sides


@dataclasses.dataclass(frozen=True)
class Protocol:
  """What an evaluation result must state to be repeated.

  mode: 'whole' (the network sees the picture at once) or 'slide' (windows of one size).
  window, stride: (height, width), None for 'whole'.  batch: windows per call of the network, which
  changes speed only.  network: an index, or 'mean' of all.  stack: which networks, '' = those that
  train.  scales, flip: windows are seen at these scales, and mirrored too; the probabilities are
  averaged.  whole: pictures of that mode are 'padded' to sizes like those of training and cut, or
  seen 'as_is'; windows are as they are.
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

  def segmenter(
    self,
    forward: Forward,
    num_classes: int,
    *,
    grid: Grid | None = None,
    devices: int = 1,
    confidence: bool = False,
    probabilities: bool = False,
    classify: Classify | None = None,
    gate: ClassGate | None = None,
  ) -> Segmenter:
    """A segmenter by this protocol; its batch is rounded up to a multiple of `devices`.

    `grid`: of the networks, see `inference.grid`; it is needed where pictures are padded.
    """
    if self.whole == "padded" and grid is None:
      raise ValueError("padded pictures need the grid of the networks, see inference.grid")
    batch = -(-self.batch // devices) * devices
    return Segmenter(
      forward,
      window=self.window,
      stride=self.stride,
      grid=grid if self.whole == "padded" else None,
      batch=batch,
      num_classes=num_classes,
      confidence=confidence,
      probabilities=probabilities,
      classify=classify,
      gate=gate,
    )

  def as_dict(self) -> dict[str, Any]:
    """For a result file; `whole` is left out where pictures, or windows, are as they are."""
    fields = {**dataclasses.asdict(self), "scales": list(self.scales)}
    del fields["batch"]
    if self.whole == "as_is":
      del fields["whole"]
    return fields

  @property
  def name(self) -> str:
    """Short, fit for a file name: `network_0_slide_800x800_stride_534x534`."""
    network = f"{self.stack or 'network'}_{self.network}"
    if self.mode == "whole":
      return f"{network}_whole" + "_padded" * (self.whole == "padded")
    (h, w), (y, x) = self.window, self.stride
    return f"{network}_slide_{h}x{w}_stride_{y}x{x}"


def from_config(
  config: ConfigDict,
  *,
  mode: str | None = None,
  whole: str | None = None,
  window: Size | None = None,
  stride: Size | None = None,
  network: str | None = None,
  batch: int | None = None,
  scales: tuple[float, ...] = (1.0,),
  flip: bool = False,
) -> Protocol:
  """The protocol of a config's `eval` block; what is given here goes before it.

  A window given without a mode means 'slide', and its stride is 2/3 of it unless given too;
  `whole` without a mode means 'whole'.

  Raises:
    ConfigError: an unknown mode, an impossible batch or window, a window or stride for whole
      pictures, or what is done to these for windows.
  """
  given = "slide" if window or stride else "whole" if whole else None
  mode = mode or given or config.mode
  if mode not in MODES:
    raise ConfigError(f"evaluation mode {mode!r}: one of {MODES}")
  seen = (config.stack, tuple(scales), flip)
  network, batch = network or str(config.network), config.batch if batch is None else batch
  if not 1 <= batch <= _MOST:
    raise ConfigError(
      f"evaluation batch {batch}: at least 1 window per call of the network, at most {_MOST}"
    )
  if mode == "whole":
    if window or stride:
      raise ConfigError("mode 'whole' has no window and no stride; use mode 'slide'")
    whole = whole or config.whole
    if whole not in WHOLE:
      raise ConfigError(f"whole pictures are {whole!r}: one of {WHOLE}")
    return Protocol(mode, None, None, batch, network, *seen, whole)
  if whole:
    raise ConfigError("mode 'slide' has windows of one size; whole pictures are of mode 'whole'")
  if stride is None:
    stride = (0, 0) if window else tuple(config.stride)
  window = window or tuple(config.window)
  if max(window) > _MOST:
    raise ConfigError(f"window {window[0]}x{window[1]}: sides of at most {_MOST} pixels")
  stride = tuple(given or standard for given, standard in zip(stride, default_stride(window)))
  return Protocol(mode, window, stride, batch, network, *seen)
