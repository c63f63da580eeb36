"""Keys that several methods read: a method's `Options` inherits from those it uses.

They lie in the block `method` itself.  The fields that `Options` declares of its own lie in the
block `method.<name>`.
"""

import dataclasses

from semiseg_jax.ops import class_weights
from semiseg_jax.ops.losses import KINDS, WEIGHTED
from semiseg_jax.ops.ramps import SHAPES
from semiseg_jax.options import key

BN = ("train", "batch", "eval")


@dataclasses.dataclass(frozen=True)
class Supervised:
  """The loss on labeled pictures; every method has one."""

  networks: int = key(2, "copies of the network that are trained", at_least=1)
  supervised_loss: str = key(
    "ce",
    "cross entropy; 'ohem': on hard pixels; 'focal': easy ones count less; 'dice', 'lovasz': the "
    "overlap of each class, where classes are rare; several are added",
    one_of=KINDS,
  )
  loss_group: int = key(
    0, "images that share a mean and a mining pool, 0 = the global batch", at_least=0
  )
  ohem_threshold: float = key(
    0.7,
    "pixels whose class has a lower probability are hard",
    above=0,
    at_most=1,
    when={"supervised_loss": ("ohem",)},
  )
  ohem_kept_fraction: float = key(
    0.078125,
    "so many pixels are kept at least: 50,000 of an 800x800 crop",
    at_least=0,
    at_most=1,
    when={"supervised_loss": ("ohem",)},
  )
  focal_gamma: float = key(
    2.0,
    "the larger, the less easy pixels count; 0 = cross entropy",
    at_least=0,
    when={"supervised_loss": ("focal", "focal+dice")},
  )
  class_weighting: str = key(
    "equal",
    "weights of classes in cross entropy and focal loss: 'given' in class_weight_list, or by a "
    "rule from the labeled pictures, see semiseg_jax/ops/class_weights.py",
    one_of=("equal", "given", *class_weights.RULES),
    when={"supervised_loss": WEIGHTED},
  )
  class_weight_list: tuple[float, ...] = key(
    (), "one per class, in their order", at_least=0, when={"class_weighting": ("given",)}
  )
  class_weight_beta: float = key(
    0.999999,
    "beta: 1 / (1 - beta) pixels of a class are as good as more of them",
    at_least=0,
    below=1,
    when={"class_weighting": ("effective_number",)},
  )


@dataclasses.dataclass(frozen=True)
class Weighted:
  """lambda, the weight of the loss on unlabeled pictures."""

  weight: float = key(1.5, "lambda", at_least=0)
  weight_start: int = key(0, "step from which lambda counts and rises; it is 0 before", at_least=0)
  weight_ramp_steps: int = key(0, "lambda rises to its value over them, 0 = constant", at_least=0)
  weight_ramp: str = key("", "shape of the rise; '' = the method's published one", one_of=SHAPES)


@dataclasses.dataclass(frozen=True)
class CutMix:
  """Pictures that are mixed from two."""

  cutmix: bool = key(False, "unlabeled pictures are mixed from two")
  cutmix_partner: str = key(
    "different_image",
    "'same_image': two views of one picture, as CPS released it",
    one_of=("different_image", "same_image"),
    when={"cutmix": (True,)},
  )
  cutmix_boxes: int = key(3, "pasted rectangles", at_least=1, when={"cutmix": (True,)})
  cutmix_area: tuple[float, float] = key(
    (0.25, 0.5),
    "(smallest, largest) share of the picture that they cover together",
    above=0,
    at_most=1,
    rises=True,
    length=(2,),
    when={"cutmix": (True,)},
  )


@dataclasses.dataclass(frozen=True)
class WeakToStrong:
  """Weak views of unlabeled pictures teach strong ones: FixMatch, UniMatch."""

  threshold: float = key(
    0.95, "pixels whose largest probability is lower teach nothing", at_least=0, at_most=1
  )
  box_p: float = key(
    0.5, "probability that a strong view has a box of its partner", at_least=0, at_most=1
  )
  box_partner: str = key(
    "different_image",
    "'same_image': two crops of one picture, as UniMatch released it; 'reversed': the batch in "
    "reverse order, as in UniMatch V2",
    one_of=("different_image", "same_image", "reversed"),
  )
  joint_statistics: bool = key(
    True,
    "streams of one pass share batch statistics, as published; False: every stream has its own",
  )


@dataclasses.dataclass(frozen=True)
class PseudoLabelBN:
  """Statistics of the passes that only give pseudo labels."""

  pseudo_label_bn: str = key(
    "train",
    "of passes for pseudo labels: 'batch' moves no running statistics, 'eval' uses them",
    one_of=BN,
    when={"cutmix": (True,)},
  )


@dataclasses.dataclass(frozen=True)
class Choice:
  """Which method, and what is added to it."""

  name: str = key("cps", "a file of semiseg_jax/methods")
  add: tuple[str, ...] = key((), "terms of other methods that are added, such as 'pixel_contrast'")
  compat: tuple[str, ...] = key((), "published quirks by name, see COMPAT of the method's file")
