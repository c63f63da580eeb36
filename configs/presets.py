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
  c.profile_steps = ()  # (first, last): these steps are traced into WORKDIR/profile
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
  c.data.augment = "cps"  # order, resampling and padding, see semiseg_jax/data/augment/families.py
  c.data.scales = (0.5, 0.75, 1.0, 1.5, 1.75, 2.0)  # the published list: 1.25 is absent; families
  # that scale continuously take (lowest, highest)
  c.data.pair_scales = (0.8, 2.0)  # lowest, highest, of pairs of crops
  c.data.base_size = 0  # 'unimatch', 'cac': pixels of the long side at scale 1, 0 = the picture's
  c.data.flip = 0.5
  c.data.padding = "mean"  # the mean color exactly; 'black' or 'mean_pixel' (8 bits) as published
  c.data.labeled_photometry = "none"  # of every labeled picture: 'jitter' (by data.strong.jitter),
  # 'brightness' (ContrastiveSeg) or 'distortion' (PaddleSeg)
  c.data.unlabeled_photometry = "none"  # of every unlabeled picture, before any strong view
  c.data.strong = ConfigDict()  # strong views, in the order given; UniMatch's values
  c.data.strong.order = ("jitter", "gray", "blur")
  c.data.strong.jitter = (0.5, 0.5, 0.5, 0.25)  # brightness, contrast, saturation, hue
  c.data.strong.jitter_p = 0.8
  c.data.strong.gray_p = 0.2
  c.data.strong.blur_p = 0.5
  c.data.strong.blur_sigma = (0.1, 2.0)  # pixels, uniform
  c.data.strong.blur_taps = 0  # 3 or 5 = OpenCV's weights for so many, instead of a sigma
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
  c.model.remat = "none"  # what the backward pass computes again to save memory: 'products' = all
  # but convolutions (about half of it), 'blocks' = all but blocks' inputs (up to 1/3 more
  # arithmetic), or by beginnings: 'encoder/layer1=blocks,decoder=products'
  c.model.compat = ()  # 'biased_variance': running variances as PaddlePaddle keeps them
  c.model.family = ()
  c.model.rate = 1.0
  c.model.mean = ()
  c.model.std = ()
  c.model.pretrained = ""  # a folder that data_prep.pretrained wrote; '' = from scratch
  c.model.resnet = (
    ConfigDict()
  )  # which published values are whose: semiseg_jax/models/backbones/resnet.py
  c.model.resnet.multi_grid = (1, 2, 4)  # factors on layer4's dilations; (1, 1, 1) = none
  c.model.resnet.dilate_first = True  # False: a dilated layer's first block keeps the old dilation
  c.model.resnet.caffe_stride = False  # bottlenecks stride on the first 1x1 instead of the 3x3
  c.model.resnet.ceil_pool = False  # the stem's pool rounds sizes up: one row more on even ones
  c.model.hrnet = ConfigDict()  # which values are whose: semiseg_jax/models/backbones/hrnet.py
  c.model.hrnet.padding = "symmetric"  # 'same': PaddlePaddle's, weights trained so need it
  c.model.hrnet.align_corners = True  # how branches are enlarged; must be that of the weights
  c.model.deeplabv2 = ConfigDict()
  c.model.deeplabv2.rates = (6, 12, 18, 24)  # one 3x3 convolution each
  c.model.deeplabv2.summed = 0  # 0 = all; 2 = the first two only, as AdvSemiSeg's code returns
  c.model.deeplabv3plus = ConfigDict()
  c.model.deeplabv3plus.variant = "torchsemiseg"  # 'cac' and 'unimatch': plain ASPPs, see the head
  c.model.deeplabv3plus.aspp_width = 256
  c.model.deeplabv3plus.aspp_rates = (6, 12, 18)
  c.model.deeplabv3plus.low_width = 48
  c.model.deeplabv3plus.decoder_width = 256
  c.model.deeplabv3plus.decoder_convs = 2
  c.model.dinov2 = ConfigDict()
  c.model.dinov2.flash_attention = False  # True: cuDNN's, in bfloat16 on NVIDIA GPUs from Ampere on
  c.model.dpt = ConfigDict()
  c.model.dpt.width = 64  # published: small 64, base 128, large 256
  c.model.dpt.level_widths = (48, 96, 192, 384)  # base 96 192 384 768, large 256 512 1024 1024
  c.model.fcn = ConfigDict()
  c.model.fcn.variant = "contrast"  # 'official': the HRNet authors', 1x1 and without dropout
  c.model.fcn.align_corners = True  # how logits are resized; PaddleSeg and the authors: False
  c.model.ocr = ConfigDict()
  c.model.ocr.width = 512  # of pixels and their context; the cheaper OCR_B: 256, 128, 256
  c.model.ocr.key_width = 256
  c.model.ocr.aux_width = 0  # of the coarse segmentation, 0 = as wide as the backbone's last map
  c.model.ocr.align_corners = True  # how logits are resized
  c.model.pspnet = ConfigDict()
  c.model.pspnet.width = 512  # of every pooled branch and of the features; most of the head's cost
  c.model.pspnet.bins = (1, 2, 3, 6)  # cells along a side of each branch
  c.model.pspnet.doublings = 3  # of the size: logits at 1/8 of the output stride
  c.model.pspnet.last_relu = True  # logits are never negative, as published
  c.model.projection = ConfigDict()
  c.model.projection.kind = "none"  # 'convmlp', 'linear': embeddings of unit length from 'high'
  # 'cac': from 2x2 averages of what the classifier sees (published width 128)
  c.model.projection.width = 256  # channels of the embedding

  c.method = ConfigDict()
  c.method.name = "cps"
  c.method.networks = 2
  c.method.weight = 1.5  # lambda
  c.method.weight_ramp_steps = 0  # 0 = constant, as CPS published; 'mean_teacher': sigmoid ramp
  c.method.weight_ramp = ""
  c.method.add = ()
  c.method.cutmix = False
  c.method.cutmix_partner = "different_image"  # 'same_image': two views of one, as released
  c.method.cutmix_boxes = 3
  c.method.cutmix_area = (0.25, 0.5)
  c.method.pseudo_label_bn = "train"  # 'eval': running statistics for the pseudo labels
  c.method.supervised_loss = "ce"  # or 'ohem'
  c.method.loss_group = 0  # images that share a mean and a mining pool, 0 = the global batch
  c.method.ohem_threshold = 0.7
  c.method.ohem_kept_fraction = 0.078125  # 50,000 pixels of an 800x800 crop
  c.method.compat = ()  # published quirks by name: COMPAT in semiseg_jax/methods/*.py
  c.method.mean_teacher = ConfigDict()
  c.method.mean_teacher.decay = 0.99  # of the average, at most; 1 - 1/(t+1) before
  c.method.mean_teacher.consistency = "prob_mse"  # 'logit_mse': PixelSSL; 'prob_sse': CutMix-Seg
  c.method.mean_teacher.on = "unlabeled"  # 'all': the CPS authors' baseline
  c.method.mean_teacher.teacher_bn = "own_batch"  # 'ema_buffers': averaged running statistics
  c.method.mean_teacher.ce_mean = "valid_pixels"  # 'all_pixels': PixelSSL
  c.method.mean_teacher.threshold = 0.0  # 0.97: CutMix-Seg
  c.method.advsemiseg = ConfigDict()
  c.method.advsemiseg.weight_labeled = 0.01  # of fooling the discriminator
  c.method.advsemiseg.weight_unlabeled = 0.001
  c.method.advsemiseg.weight_semi = 0.1  # of self-training; 0 = none
  c.method.advsemiseg.threshold = 0.2  # of the discriminator's probability, for self-training
  c.method.advsemiseg.adversarial_start = 0  # steps
  c.method.advsemiseg.semi_start = 5000
  c.method.advsemiseg.judge_unlabeled = True  # the discriminator sees unlabeled predictions too
  c.method.advsemiseg.widths = (64, 128, 256, 512)  # channels of the discriminator's layers
  c.method.advsemiseg.learning_rate = 1e-4  # of the discriminator's Adam
  c.method.advsemiseg.betas = (0.9, 0.99)
  c.method.pixel_contrast = ConfigDict()
  c.method.pixel_contrast.weight = 0.1
  c.method.pixel_contrast.temperature = 0.1  # 0.07 with the published memory
  c.method.pixel_contrast.base_temperature = 0.07
  c.method.pixel_contrast.max_samples = 1024  # anchors of `loss_group` pictures
  c.method.pixel_contrast.max_views = 100  # anchors per class of a picture; 1: no hard ones
  c.method.pixel_contrast.warmup_steps = 5000
  c.method.pixel_contrast.memory = 0  # places per class; published: 5000
  c.method.pixel_contrast.memory_pixels = 10  # per class of a picture
  c.method.pixel_contrast.class_weights = ()  # of the cross entropy, one per class

  c.optimizer = ConfigDict()
  c.optimizer.learning_rate = 0.0025
  c.optimizer.power = 0.9
  c.optimizer.momentum = 0.9
  c.optimizer.weight_decay = 4e-4
  c.optimizer.decayed = "kernels"  # or 'all': scales and biases too
  c.optimizer.head_multiplier = 1.0  # learning rate of all but the backbone, relative to its
  c.optimizer.frozen_norms = False  # True: scales and biases of normalisations never move

  c.train = ConfigDict()
  c.train.steps = 0
  c.train.batch_labeled = 8  # global, however many devices
  c.train.batch_unlabeled = 8
  c.train.accumulate = 1  # parts of a batch run one after the other: less memory, same rows
  c.train.bn_group = 0  # images of a stream that share batch statistics, 0 = the global batch
  c.train.log_every = 50

  c.eval = ConfigDict()
  c.eval.every = 0  # steps, 0 = only at the end
  c.eval.mode = "slide"  # or 'whole'
  c.eval.window = (512, 512)
  c.eval.stride = (0, 0)  # 0 = ceil(2/3 of the window)
  c.eval.batch = 8  # windows per call
  c.eval.network = "0"  # index, or 'mean' of all
  c.eval.stack = ""  # 'teacher' where the method has one; '' = the networks that train
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


METHODS = ("supervised", "cps", "cps_cutmix", "mean_teacher", "cutmix_seg")


def choose_method(
  c: ConfigDict,
  method: str,
  *,
  plain: float,
  mixed: float,
  taught: float = 100.0,
  ramp_steps: int = 0,
) -> None:
  """Sets a method of METHODS with the lambdas of the data set.

  Mean teacher is as in the CPS authors' baseline (lambda 100, on all pictures), but that the
  average follows each update.  CutMix-Seg has its authors' loss, mask and teacher (lambda 1), with
  the optimizer of the config.  Keys that the method does not read stay at their defaults: others
  are refused.
  """
  if method not in METHODS:
    raise ValueError(f"method={method!r}: one of {', '.join(METHODS)}.")
  if method == "supervised":
    c.method.name = "supervised"
    c.method.networks = 1
    return
  c.method.weight_ramp_steps = ramp_steps
  if method == "cps":
    c.method.weight = plain
  elif method == "cps_cutmix":
    cutmix(c, mixed)
  elif method == "mean_teacher":
    c.method.name, c.method.networks, c.method.weight = "mean_teacher", 1, taught
    c.method.mean_teacher.on = "all"
  else:
    cutmix_seg(c)


def cutmix_seg(c: ConfigDict) -> None:
  """CutMix-Seg: a mean teacher in evaluation mode, one box of half the picture."""
  c.method.name, c.method.networks = "mean_teacher", 1
  cutmix(c, 1.0)
  c.method.cutmix_boxes, c.method.cutmix_area = 1, (0.5, 0.5)
  o = c.method.mean_teacher
  o.consistency, o.teacher_bn, o.threshold = "prob_sse", "ema_buffers", 0.97
  c.eval.stack = "teacher"


def contrast(c: ConfigDict, weight: float = 0.1) -> None:
  """Pixel contrast with the projection head of its authors, the published 2 pictures a group."""
  c.method.name, c.method.networks, c.method.pixel_contrast.weight = "pixel_contrast", 1, weight
  c.method.loss_group = 2
  c.model.projection.kind = "convmlp"


def adversarial(c: ConfigDict) -> None:
  """AdvSemiSeg: one network; its loss weights are its own."""
  c.method.name, c.method.networks = "advsemiseg", 1


def hrnet_of_paddle(c: ConfigDict) -> None:
  """HRNet with the FCN head in PaddleSeg's conventions, for weights that were trained with it."""
  c.model.hrnet.padding, c.model.hrnet.align_corners = "same", False
  c.model.fcn.align_corners = False
  c.model.compat = ("biased_variance",)


def augment_unimatch(c: ConfigDict, base_size: int = 0) -> None:
  """The crops of UniMatch, UniMatch V2 and FixMatch; with a base size those of ST++."""
  c.data.augment, c.data.scales, c.data.base_size = "unimatch", (0.5, 2.0), base_size
  c.data.padding = "black"


def augment_cac(c: ConfigDict, base_size: int) -> None:
  """The crops of CAC (base size 400 for VOC, 2048 for Cityscapes) and CCT."""
  c.data.augment, c.data.scales, c.data.base_size = "cac", (0.5, 2.0), base_size
  c.data.padding = "mean_pixel"


def strong_cac(c: ConfigDict) -> None:
  """What CAC does to both crops of a pair."""
  strong = c.data.strong
  strong.order, strong.jitter = ("blur", "jitter", "gray"), (0.4, 0.4, 0.4, 0.1)
  strong.blur_taps = 5


def augment_advsemiseg(c: ConfigDict, published: bool) -> None:
  """The crops of AdvSemiSeg: as released (neither scaled nor mirrored) or as its paper says."""
  c.data.augment = "advsemiseg"
  c.data.scales = (1.0,) if published else tuple(k / 10 for k in range(5, 17))
  c.data.flip = 0.0 if published else 0.5
  c.data.mean = tuple(m / 255 for m in (122.67891434, 116.66876762, 104.00698793))
  c.data.std = (1 / 255,) * 3


def augment_contrastiveseg(c: ConfigDict) -> None:
  """The crops of ContrastiveSeg's authors, with the statistics of RGB on RGB."""
  c.data.augment, c.data.scales = "contrastiveseg", (0.5, 2.0)
  c.data.labeled_photometry = "brightness"


def augment_paddleseg(c: ConfigDict) -> None:
  """The crops of PaddleSeg and its ports: (x - 0.5) / 0.5, so that its padding 127.5 is 0."""
  c.data.augment, c.data.scales = "paddleseg", tuple(k / 4 for k in range(2, 9))
  c.data.mean = c.data.std = (0.5, 0.5, 0.5)
  c.data.labeled_photometry = "distortion"


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
