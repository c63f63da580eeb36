"""Crops and strong views of published recipes: the block `data`, whatever the data set."""

from ml_collections import ConfigDict


def unimatch(c: ConfigDict, base_size: int = 0) -> None:
  """The crops of UniMatch, UniMatch V2 and FixMatch; with a base size those of ST++."""
  c.data.augment, c.data.scales, c.data.base_size = "unimatch", (0.5, 2.0), base_size
  c.data.padding = "black"


def cac(c: ConfigDict, base_size: int) -> None:
  """The crops of CAC (base size 400 for VOC, 2048 for Cityscapes) and CCT."""
  c.data.augment, c.data.scales, c.data.base_size = "cac", (0.5, 2.0), base_size
  c.data.padding = "mean_pixel"


def strong_cac(c: ConfigDict) -> None:
  """What CAC does to both crops of a pair."""
  strong = c.data.strong
  strong.order, strong.jitter = ("blur", "jitter", "gray"), (0.4, 0.4, 0.4, 0.1)
  strong.blur_taps = 5


def advsemiseg(c: ConfigDict, published: bool) -> None:
  """The crops of AdvSemiSeg: as released (neither scaled nor mirrored) or as its paper says."""
  c.data.augment = "advsemiseg"
  c.data.scales = (1.0,) if published else tuple(k / 10 for k in range(5, 17))
  c.data.flip = 0.0 if published else 0.5
  c.data.mean = tuple(m / 255 for m in (122.67891434, 116.66876762, 104.00698793))
  c.data.std = (1 / 255,) * 3


def contrastiveseg(c: ConfigDict) -> None:
  """The crops of ContrastiveSeg's authors, with the statistics of RGB on RGB."""
  c.data.augment, c.data.scales = "contrastiveseg", (0.5, 2.0)
  c.data.labeled_photometry = "brightness"


def paddleseg(c: ConfigDict) -> None:
  """The crops of PaddleSeg and its ports: (x - 0.5) / 0.5, so that its padding 127.5 is 0."""
  c.data.augment, c.data.scales = "paddleseg", tuple(k / 4 for k in range(2, 9))
  c.data.mean = c.data.std = (0.5, 0.5, 0.5)
  c.data.labeled_photometry = "distortion"


def pseudoseg(c: ConfigDict) -> None:
  """The crops of PseudoSeg."""
  c.data.augment, c.data.scales = "pseudoseg", tuple(k / 4 for k in range(2, 9))
  c.data.padding = "mean_pixel"


def strong_pseudoseg(c: ConfigDict) -> None:
  """The colors of PseudoSeg's strong views; their hole is `method.pseudoseg.cutout`."""
  strong = c.data.strong
  strong.order, strong.jitter_p, strong.jitter_rule = ("jitter",), 1.0, "tensorflow"


def u2pl(c: ConfigDict) -> None:
  """The crops of U2PL."""
  c.data.augment, c.data.scales = "u2pl", (0.5, 2.0)
