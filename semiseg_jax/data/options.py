"""Keys of the block `data`: which pictures, and what is done to them before they reach a device."""

import dataclasses

from semiseg_jax.data.augment import families
from semiseg_jax.ops import photometry
from semiseg_jax.options import key

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Options:
  """The config block `data`; `data.strong` is in ops/photometry.py."""

  root: str = key(
    "",
    "the folder that a data_prep command wrote, or tfds:FOLDER of a tfds build",
    required=True,
    free=True,
  )
  prepare: str = key(
    "",
    "'toy_city', 'toy_town': make that embedded data set at data.root when it is missing",
    one_of=("", "toy_city", "toy_town"),
    free=True,
  )
  train: str = key("train", "list of the training pictures: its name, or a text file of ids")
  labeled: str = key("", "list of the labeled pictures: its name, or a text file", required=True)
  unlabeled: str = key(
    "rest",
    "'rest' = data.train without data.labeled; 'all' = data.train; 'stored' = those of "
    "data.targets; a list; a file",
  )
  unlabeled_root: str = key(
    "",
    "a second dataset, of which data.unlabeled then speaks: 'all', a list, a file, or 'rest' = all "
    "of it and data.train without data.labeled",
    free=True,
  )
  sources: tuple[str, ...] = key(
    (), "further sources of pictures for methods that name them: NAME=LIST, a name or a text file"
  )
  targets: str = key(
    "",
    "a folder of stored pseudo labels of unlabeled pictures, for methods that learn from them",
    free=True,
  )
  val: str = key("val", "list that is evaluated; '' = no evaluation during training")
  crop: tuple[int, int] = key((512, 512), "(height, width) of a training picture", at_least=1)
  augment: str = key(
    "cps",
    "order, resampling and padding, see semiseg_jax/data/augment/families.py",
    one_of=families.FAMILIES,
  )
  scales: tuple[float, ...] = key(
    (0.5, 0.75, 1.0, 1.5, 1.75, 2.0),
    "factors, one is drawn; the published list: 1.25 is absent; families that scale continuously "
    "take (lowest, highest)",
    above=0,
  )
  pair_scales: tuple[float, float] = key(
    (0.8, 2.0),
    "(lowest, highest) factor of pairs of crops",
    above=0,
    rises=True,
    when={"augment": families.WITH_PAIRS},
  )
  base_size: int = key(
    0,
    "pixels of the long side at scale 1, 0 = the picture's",
    at_least=0,
    when={"augment": families.WITH_BASE_SIZE},
  )
  rare_crop: float = key(
    0.0,
    "probability that a crop of a labeled picture is laid around a pixel of data.rare_classes, "
    "where it shows one; the whole label is then decoded",
    at_least=0,
    at_most=1,
  )
  rare_classes: tuple[str, ...] = key(
    (), "names of classes; () = all that a picture shows, each as likely as the others"
  )
  flip: float = key(0.5, "probability of a mirrored picture", at_least=0, at_most=1)
  padding: str = key(
    "mean",
    "color around a picture: the mean exactly; 'black' or 'mean_pixel' (8 bits) as published",
    one_of=("mean", "black", "mean_pixel"),
  )
  labeled_photometry: str = key(
    "none",
    "of every labeled picture: 'jitter' by data.strong.jitter, 'brightness' (ContrastiveSeg), "
    "'distortion' (PaddleSeg)",
    one_of=photometry.EVERY_VIEW,
  )
  unlabeled_photometry: str = key(
    "none",
    "the same of every unlabeled picture, before any strong view",
    one_of=photometry.EVERY_VIEW,
  )
  normalization: str = key(
    "auto",
    "'auto': data.mean and data.std if they are not the defaults; else those measured in "
    "preparation where no weights are pretrained, else ImageNet's; 'given': data.mean and data.std",
    one_of=("auto", "given"),
  )
  mean: tuple[float, ...] = key(IMAGENET_MEAN, "of each channel, as a share of 255")
  std: tuple[float, ...] = key(IMAGENET_STD, "of each channel, as a share of 255", above=0)
  tfds_image: str = key("image", "feature of a tfds build that holds the picture")
  tfds_label: str = key("segmentation_mask", "feature that holds the label")
  tfds_id: str = key("", "a text feature that names the pictures; '' numbers them: train_000000")
  tfds_classes: str = key(
    "", "a classes file as for data_prep.folder; '' = the label feature's names", free=True
  )
  tfds_ignored: tuple[int, ...] = key(
    (), "label values of no class, besides the classes file's (else 255)"
  )
  compat: tuple[str, ...] = key(
    (),
    "'crop_offset': the published one-pixel overshoot",
    one_of=("crop_offset",),
    when={"augment": ("cps",)},
  )
  workers: int = key(
    4, "processes that read and augment, 0 = inside this one", at_least=0, free=True
  )
