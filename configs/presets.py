"""Shared parts of the configs: the full set of keys, data sets, recipes, and the argument string.

Every key that exists is read, and every key that is read exists here.
"""

from ml_collections import ConfigDict

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def parse(arg: str | None, **defaults: str) -> dict[str, str]:
  """Reads the text behind the colon of `--config=FILE.py:key=value,key=value`.

  Raises:
    ValueError: a key that the config does not know, with those it does.
  """
  chosen = dict(defaults)
  for item in filter(None, (arg or "").split(",")):
    key, equals, value = item.partition("=")
    if not equals or key not in defaults:
      raise ValueError(f"--config argument {item!r}: write key=value with {sorted(defaults)}.")
    chosen[key] = value
  return chosen


def base() -> ConfigDict:
  """Returns every key there is, in the order of the pipeline."""
  c = ConfigDict()
  c.name = ""
  c.seed = 0
  c.init_from = ""  # a workdir: its networks are the start of these (other class counts too)

  c.data = ConfigDict()
  c.data.root = ""  # the folder that a data_prep command wrote, or tfds:FOLDER of a tfds build
  c.data.prepare = ""  # 'toy_city': make the embedded data set at `root` when it is missing
  c.data.train = "train"  # list name, or a text file of ids
  c.data.labeled = ""
  c.data.unlabeled = "rest"  # 'rest' = train without labeled; 'all' = train; a list; a file
  c.data.unlabeled_root = ""  # a second dataset, of which `unlabeled` then speaks: 'all', a list,
  # a file, or 'rest' = all of it and train without labeled
  c.data.val = "val"  # '' = no evaluation during training
  c.data.crop = (512, 512)  # height, width
  c.data.scales = (0.5, 0.75, 1.0, 1.5, 1.75, 2.0)  # the published list: 1.25 is absent
  c.data.flip = 0.5
  c.data.mean = IMAGENET_MEAN
  c.data.std = IMAGENET_STD
  c.data.tfds_image = "image"  # features of a tfds build; the splits are its lists
  c.data.tfds_label = "segmentation_mask"
  c.data.tfds_id = ""  # a text feature that names the pictures; '' numbers them: train_000000
  c.data.tfds_classes = ""  # a classes file as for data_prep.folder; '' = the label feature's names
  c.data.tfds_ignored = ()  # label values of no class, besides the classes file's (else 255)
  c.data.compat = ()  # 'crop_offset': the published one-pixel overshoot
  c.data.workers = 4  # processes that read and augment, 0 = inside this one

  c.model = ConfigDict()
  c.model.backbone = "resnet50_v1s"
  c.model.head = "deeplabv3plus"
  c.model.output_stride = 0  # 0 = the backbone's usual one; smaller costs memory and time
  c.model.dtype = "float32"  # of activations; 'bfloat16' halves their memory on GPU and TPU
  c.model.compat = ()  # 'biased_variance': running variances as PaddlePaddle keeps them
  c.model.pretrained = ""  # a folder that data_prep.pretrained wrote; '' = from scratch
  c.model.resnet = ConfigDict()  # which published values are whose: semiseg_jax/models/resnet.py
  c.model.resnet.multi_grid = (1, 2, 4)  # factors on layer4's dilations; (1, 1, 1) = none
  c.model.resnet.dilate_first = True  # False: a dilated layer's first block keeps the old dilation
  c.model.resnet.caffe_stride = False  # bottlenecks stride on the first 1x1 instead of the 3x3
  c.model.resnet.ceil_pool = False  # the stem's pool rounds sizes up: one row more on even ones
  c.model.deeplabv3plus = ConfigDict()
  c.model.deeplabv3plus.aspp_width = 256
  c.model.deeplabv3plus.aspp_rates = (6, 12, 18)
  c.model.deeplabv3plus.low_width = 48
  c.model.deeplabv3plus.decoder_width = 256
  c.model.deeplabv3plus.decoder_convs = 2
  c.model.projection = ConfigDict()
  c.model.projection.kind = "none"
  c.model.projection.width = 256  # channels of the embedding

  c.method = ConfigDict()
  c.method.name = "cps"
  c.method.networks = 2
  c.method.weight = 1.5  # lambda
  c.method.weight_ramp_steps = 0  # 0 = constant, as published
  c.method.cutmix = False
  c.method.cutmix_partner = "different_image"  # 'same_image': two views of one, as released
  c.method.cutmix_boxes = 3
  c.method.cutmix_area = (0.25, 0.5)
  c.method.pseudo_label_bn = "train"  # 'eval': running statistics for the pseudo labels
  c.method.supervised_loss = "ce"  # or 'ohem'
  c.method.loss_group = 0  # images that share a mean and a mining pool, 0 = the global batch
  c.method.ohem_threshold = 0.7
  c.method.ohem_kept_fraction = 0.078125  # 50,000 pixels of an 800x800 crop
  c.method.compat = ()  # 'pseudo_label_padding': pseudo labels on padding too

  c.optimizer = ConfigDict()
  c.optimizer.learning_rate = 0.0025
  c.optimizer.power = 0.9
  c.optimizer.momentum = 0.9
  c.optimizer.weight_decay = 4e-4  # convolution kernels only

  c.train = ConfigDict()
  c.train.steps = 0
  c.train.batch_labeled = 8  # global, however many devices
  c.train.batch_unlabeled = 8
  c.train.log_every = 50

  c.eval = ConfigDict()
  c.eval.every = 0  # steps, 0 = only at the end
  c.eval.mode = "slide"  # or 'whole'
  c.eval.window = (512, 512)
  c.eval.stride = (0, 0)  # 0 = ceil(2/3 of the window)
  c.eval.batch = 8  # windows per call
  c.eval.network = "0"  # index, or 'mean' of all
  c.eval.pictures = 8  # of val, shown as image | truth | prediction

  c.checkpoint = ConfigDict()
  c.checkpoint.every = 1000
  c.checkpoint.keep = 2  # newest ones; the best is kept beside

  c.runtime = ConfigDict()
  c.runtime.replica = 1  # devices over which the networks of a stack are dealt out
  c.runtime.compilation_cache = ""  # folder, '' = WORKDIR/compilation_cache, 'off' = none
  c.runtime.cpu_xla_flags = ""  # added to XLA_FLAGS where only a CPU is present
  return c


def cutmix(c: ConfigDict, weight: float) -> None:
  """CPS with CutMix: lambda changes with it."""
  c.method.cutmix = True
  c.method.weight = weight


def choose_method(
  c: ConfigDict, method: str, *, plain: float, mixed: float, ramp_steps: int = 0
) -> None:
  """Sets `supervised`, `cps` or `cps_cutmix` with the lambdas of the data set.

  Keys that the method does not read stay at their defaults: others are refused.
  """
  if method == "supervised":
    c.method.name = "supervised"
    c.method.networks = 1
    return
  c.method.weight_ramp_steps = ramp_steps
  if method == "cps":
    c.method.weight = plain
  elif method == "cps_cutmix":
    cutmix(c, mixed)
  else:
    raise ValueError(f"method={method!r}: supervised, cps or cps_cutmix.")


def ratio_list(ratio: str) -> str:
  """'1_8' -> the list name 'labeled_1_8'."""
  return f"labeled_{ratio}"


def choose(options: dict, choice: str, what: str) -> object:
  """Returns options[choice]; ValueError with the possible ones otherwise."""
  if choice not in options:
    raise ValueError(f"{what}={choice!r}: one of {', '.join(map(str, options))}.")
  return options[choice]


def choose_published(c: ConfigDict, published: str) -> None:
  """With 'yes' keeps what the released code does and its authors did not intend.

  The method is chosen before.
  """
  if not choose({"yes": True, "no": False}, published, "published"):
    return
  c.data.compat = ("crop_offset",)
  if c.method.name == "cps":
    c.method.compat = ("pseudo_label_padding",)
  if c.method.cutmix:
    c.method.cutmix_partner = "same_image"
