"""The recipes as published."""

import numpy as np
import pytest

from configs import networks
from semiseg_jax.config import rules
from semiseg_jax.methods import contract
from semiseg_jax.models import network
from tests.configs.files import numbers_of, of_file

PUBLISHED = {
  "cps_voc": ((1.5, 1.0), 512, (39_680, 39_338, 39_680, 39_660), 4e-4, "ce"),
  "cps_city": ((6.0, 5.0), 800, (44_544, 44_525, 44_640, 44_640), 8e-4, "ohem"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes(name):
  weights, crop, steps, decay, supervised = PUBLISHED[name]
  get = of_file(name)
  for ratio, count in zip(("1_16", "1_8", "1_4", "1_2"), steps):
    c = get(f"ratio={ratio}")
    assert (c.train.steps, c.data.labeled) == (count, f"labeled_{ratio}")
  for method, weight in zip(("cps", "cps_cutmix"), weights):
    m = get(f"method={method}").method
    assert (m.weight, m.cutmix, m.networks) == (weight, method == "cps_cutmix", 2)
    assert m.weight_ramp_steps == 0 and m.supervised_loss == supervised
  assert tuple(c.data.crop) == (crop, crop) and 1.25 not in c.data.scales
  assert (c.train.batch_labeled, c.train.batch_unlabeled) == (8, 8)
  o = c.optimizer
  assert (o.learning_rate, o.momentum, o.power, o.weight_decay) == (0.0025, 0.9, 0.9, decay)
  assert (c.method.compat, c.data.compat, c.method.cutmix_partner) == ((), (), "different_image")
  defects = get("published=yes")
  assert defects.method.compat == ("pseudo_label_padding",)
  assert defects.data.compat == ("crop_offset",)
  assert defects.method.cutmix_partner == "same_image"
  # Each GPU averaged over its own images: two of VOC, one of Cityscapes.
  assert c.method.loss_group == {"cps_voc": 0, "cps_city": 1}[name]
  assert defects.method.loss_group == {"cps_voc": 2, "cps_city": 1}[name]
  assert round(c.method.ohem_kept_fraction * 800 * 800) == 50_000
  assert get("method=supervised").method.networks == 1


def test_published_recipe_of_mean_teacher():
  get = of_file("mean_teacher_voc")
  for ratio, steps, ramp in (
    ("1_16", 24_800, 3720),
    ("1_8", 23_140, 3471),
    ("1_4", 29_760, 2976),
    ("1_2", 26_440, 1983),
  ):
    c = get(f"ratio={ratio}")
    assert numbers_of(c) == (steps, 8, 8, 321, 321, 1e-3, 5e-4, 10, "all")
    assert (c.method.weight, c.method.weight_ramp_steps) == (1.0, ramp)
  o = c.method.mean_teacher
  assert (o.decay, o.consistency, o.on) == (0.99, "logit_mse", "unlabeled")
  assert (o.teacher_bn, o.ce_mean) == ("own_batch", "valid_pixels")
  released = get("pixels=all").method
  assert released.mean_teacher.ce_mean == "all_pixels"
  assert (c.method.compat, released.compat) == ((), contract.find("mean_teacher").COMPAT)
  of_cps = of_file("cps_voc")("method=mean_teacher").method
  assert (of_cps.weight, of_cps.weight_ramp_steps, of_cps.mean_teacher.on) == (100, 0, "all")
  seg = of_file("cps_voc")("method=cutmix_seg")
  m, o = seg.method, seg.method.mean_teacher
  assert (m.weight, m.cutmix, m.cutmix_boxes, tuple(m.cutmix_area)) == (1, True, 1, (0.5, 0.5))
  assert (o.consistency, o.threshold, o.teacher_bn) == ("prob_sse", 0.97, "ema_buffers")
  assert (m.cutmix_partner, m.compat, seg.eval.stack) == ("different_image", (), "teacher")


def test_published_recipe_of_gct():
  get = of_file("gct_voc")
  for arg, steps, ramp, crop in (
    ("ratio=1_16", 24_800, 3720, 321),
    ("ratio=1_8", 23_140, 3471, 321),
    ("ratio=1_4", 29_760, 2976, 321),
    ("ratio=1_2", 26_440, 1983, 321),
    ("ratio=1_16,head=pspnet", 55_800, 6200, 513),
    ("ratio=1_8,head=pspnet", 52_065, 5785, 513),
    ("ratio=1_4,head=pspnet", 54_560, 4960, 513),
    ("ratio=1_2,head=pspnet", 52_880, 3305, 513),
  ):
    c = get(arg)
    assert numbers_of(c) == (steps, 8, 8, crop, crop, 1e-3, 5e-4, 10, "all"), arg
    assert (c.method.weight, c.method.weight_ramp_steps) == (100, ramp), arg
  o = c.method.gct
  assert (o.weight_correction, o.weight_detector, o.threshold) == (1.0, 10.0, 0.6)
  assert (o.mu, o.nu, tuple(o.widths), o.ce_mean) == (0.5, 1, (64, 128, 256, 512), "valid_pixels")
  assert (o.learning_rate, tuple(o.betas)) == (4e-4, (0.9, 0.99))
  released = get("quirks=yes").method
  assert (c.method.networks, c.method.compat, c.method.weight_ramp) == (2, (), "")
  assert (released.compat, released.gct.ce_mean) == (contract.find("gct").COMPAT, "all_pixels")
  of_cps = of_file("cps_voc")("method=cpc").method
  assert (of_cps.name, of_cps.weight, of_cps.networks, of_cps.cutmix) == ("cpc", 100, 2, False)


def test_published_recipe_of_mlmt():
  get = of_file("mlmt_voc")
  for ratio, pictures in (("1_50", 211), ("1_20", 529), ("1_8", 1322), ("full", 10582)):
    c, epoch = get(f"ratio={ratio}"), -(-pictures // 16)
    segmentation = of_file("s4gan_voc")(f"ratio={ratio}")
    for key in ("root", "train", "labeled", "unlabeled"):
      assert c.data[key] == segmentation.data[key], (ratio, key)
    assert numbers_of(c) == (100 * epoch, 16, 80, 320, 320, 0.03, 1e-5, 1, "all"), ratio
    m = c.method
    # 0 up to epoch 10, 0.02 at 11, 1 from 60 on.
    assert (m.mlmt.epoch, m.mlmt.start, m.weight_ramp_steps) == (epoch, 10 * epoch, 50 * epoch)
    assert (m.networks, m.weight, m.mlmt.decay, m.compat) == (1, 1.0, 0.999, ())
  o, strong = c.optimizer, c.data.strong
  assert (o.name, o.momentum, o.nesterov, o.schedule) == ("sgd", 0.9, True, "cosine")
  np.testing.assert_allclose(o.final * o.learning_rate, 1e-4)
  assert (tuple(strong.order), tuple(strong.jitter)) == (("jitter", "blur"), (0.4, 0.4, 0.4, 0.1))
  assert (strong.jitter_p, strong.blur_p, tuple(strong.blur_sigma)) == (1, 1, (0.1, 2.0))
  assert (strong.blur_taps, c.data.flip) == (0, 0.5)
  assert (c.model.backbone, c.model.head, c.model.output_stride) == ("resnet101", "classifier", 32)
  assert (tuple(c.model.resnet.multi_grid), c.model.resnet.ceil_pool) == ((1, 1, 1), False)


def test_published_recipe_of_cct():
  get = of_file("cct_voc")
  for ratio, epoch in (("1464", 912), ("1000", 959), ("60", 1053), ("1_8", 926)):
    c = get(f"ratio={ratio}")
    assert numbers_of(c) == (80 * epoch, 10, 10, 320, 320, 1e-3, 1e-4, 10, "all"), ratio
    assert (c.data.labeled, c.method.weight_ramp_steps) == (f"labeled_{ratio}", 8 * epoch)
    assert (c.method.networks, c.method.weight, c.method.weight_ramp) == (1, 30, "")
  o, released = c.method.cct, get("quirks=yes").method
  numbers = (o.vat, o.dropout, o.cutout, o.context_masking, o.object_masking, o.feature_drop)
  assert (*numbers, o.feature_noise) == (2, 6, 6, 2, 2, 6, 6)
  assert (o.length, o.dropout_p, o.erase, tuple(o.activity)) == (2, 0.5, 0.4, (0.7, 0.9))
  assert (o.noise, tuple(o.background), o.distance, o.confidence) == (0.3, (0,), "mse", 0)
  assert (o.annealed, o.temperature, o.last_relu) == (False, 1, True)
  assert not get("head=deeplabv3plus").method.cct.last_relu
  assert (o.xi, released.cct.xi, c.method.compat) == (1e-2, 1e-6, ())
  assert released.compat == ("consistency_padding", "contours")
  assert (c.data.base_size, tuple(c.data.scales), c.eval.mode) == (400, (0.5, 2.0), "whole")
  city = of_file("cct_city")("ratio=1_16")
  assert tuple(city.method.cct.background) == tuple(range(11))


def test_published_recipe_of_advsemiseg_on_cityscapes():
  """Pictures of 512x1024 as they are, 2 a step, 40,000 steps; the rest of VOC."""
  c, voc = of_file("advsemiseg_city")("ratio=1_4"), of_file("advsemiseg_voc")("ratio=1_4")
  rules.validate(c)
  assert (c.data.crop, c.data.scales, c.data.flip) == ((512, 1024), (1.0,), 0.0)
  assert (c.train.steps, c.train.batch_labeled, c.train.batch_unlabeled) == (40_000, 2, 2)
  assert c.method.advsemiseg.to_dict() == voc.method.advsemiseg.to_dict()
  assert c.optimizer.to_dict() == voc.optimizer.to_dict() and not c.method.compat


def test_published_recipe_of_advsemiseg():
  get = of_file("advsemiseg_voc")
  c, code = get(), get("published=yes")
  for one in (c, code):
    repeats = 3 if one is code else 1
    assert numbers_of(one)[:5] == (20_000, 10, 10, 321, 321)
    o = one.optimizer
    np.testing.assert_allclose(o.learning_rate, repeats * 2.5e-4)
    np.testing.assert_allclose(o.learning_rate * o.head_multiplier, 2.5e-3)
    assert (o.weight_decay, o.decayed) == (5e-4, "all")
    assert one.optimizer.frozen_norms and one.model.backbone == "resnet101"
    o = one.method.advsemiseg
    assert (o.weight_labeled, o.weight_unlabeled, o.weight_semi) == (0.01, 0.001, 0.1)
    assert (o.threshold, o.semi_start, o.adversarial_start) == (0.2, 5000, 0)
    assert (o.learning_rate, tuple(o.betas), o.judge_unlabeled) == (1e-4, (0.9, 0.99), True)
  assert tuple(o.widths) == (64, 128, 256, 512)
  assert (c.model.deeplabv2.summed, code.model.deeplabv2.summed) == (0, 2)
  assert (c.data.flip, code.data.flip, tuple(code.data.scales)) == (0.5, 0.0, (1.0,))
  assert tuple(c.data.scales) == (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6)
  assert (c.eval.mode, code.eval.mode, code.eval.window) == ("whole", "slide", (505, 505))
  assert not c.method.compat and set(code.method.compat) == set(contract.find("advsemiseg").COMPAT)


def test_published_recipes_of_s4gan():
  voc, city = of_file("s4gan_voc"), of_file("s4gan_city")
  for get, key, crop, tau, rate in (
    (voc, "published", (321, 321), 0.6, 1e-4),
    (city, "quirks", (256, 512), 0.7, 1e-5),
  ):
    c, code = get(), get(f"{key}=yes")
    for one, repeats in ((c, 1), (code, 3)):
      assert numbers_of(one)[:5] == (40_000, 8, 8, *crop)
      o, m = one.optimizer, one.method
      np.testing.assert_allclose(o.learning_rate, repeats * 2.5e-4)
      np.testing.assert_allclose(o.learning_rate * o.head_multiplier, 2.5e-3)
      assert (o.weight_decay, o.decayed, o.frozen_norms) == (5e-4, "all", True)
      assert (one.model.backbone, one.model.head, m.networks) == ("resnet101", "deeplabv2", 1)
      assert (m.s4gan.weight_matching, m.s4gan.weight_self_training) == (0.1, 1.0)
      assert (m.s4gan.threshold, m.s4gan.self_training_start, m.s4gan.dropout) == (tau, 1, 0.5)
      assert (m.s4gan.learning_rate, tuple(m.s4gan.betas)) == (rate, (0.9, 0.99))
      assert (m.s4gan.picture_range, tuple(m.s4gan.widths)) == ("batch", (64, 128, 256, 512))
    assert (c.model.deeplabv2.summed, code.model.deeplabv2.summed) == (0, 2)
    assert not c.method.compat and set(code.method.compat) == set(contract.find("s4gan").COMPAT)
    assert (get("ratio=full").data.labeled, get("ratio=full").data.unlabeled) == (
      c.data.train,
      "all",
    )
  for one, flip in ((voc(), 0), (city(), 0.5)):
    assert (one.data.flip, tuple(one.data.scales)) == (flip, (1,))
  assert voc().data.train == "train_aug"
  assert [voc(f"ratio={r}").data.labeled for r in ("1_50", "1_8")] == [
    "labeled_s4gan_1_50",
    "labeled_s4gan_1_8",
  ]
  assert city("ratio=1_4").data.labeled == "labeled_1_4"
  np.testing.assert_allclose(
    np.multiply(city().data.mean, 255), (73.158, 82.909, 72.392), atol=1e-3
  )
  for theirs, ours in ((voc, "cps_voc"), (city, "cps_city")):
    options = theirs().method.s4gan, of_file(ours)("method=s4gan").method.s4gan
    assert options[0].to_dict() == options[1].to_dict()


def test_published_recipe_of_gct_on_cityscapes():
  # Three epochs of ceil to 348, 325, 279, 186 steps.
  for ratio, steps, ramp in (
    ("1_16", 44_544, 1044),
    ("1_8", 44_525, 975),
    ("1_4", 44_640, 837),
    ("1_2", 44_640, 558),
  ):
    c = of_file("gct_city")(f"ratio={ratio},quirks=yes")
    assert numbers_of(c) == (steps, 8, 8, 800, 800, 0.0025, 8e-4, 1, "kernels")
    assert (c.method.name, c.method.weight, c.method.weight_ramp_steps) == ("gct", 100, ramp)
  o = c.method.gct
  assert (o.weight_correction, o.weight_detector, o.threshold, o.learning_rate) == (
    1,
    10,
    0.6,
    4e-4,
  )
  assert c.method.supervised_loss == "ohem" and c.model.head == "deeplabv3plus"
  assert c.method.compat == contract.find("gct").COMPAT and not of_file("gct_city")().method.compat


def test_published_recipe_of_cutmix_seg():
  c = of_file("cutmix_seg_voc")("color=yes")
  assert numbers_of(c) == (40_000, 10, 10, 321, 321, 3e-6, 0, 10, "kernels")
  o, m, t = c.optimizer, c.method, c.method.mean_teacher
  assert (o.name, o.schedule, tuple(o.betas), o.frozen_norms) == (
    "adam",
    "constant",
    (0.9, 0.999),
    True,
  )
  assert c.train.frozen_statistics and c.data.unlabeled == "all" and c.eval.stack == "teacher"
  assert (m.weight, m.cutmix_boxes, tuple(m.cutmix_area)) == (1, 1, (0.5, 0.5))
  assert (t.consistency, t.threshold, t.decay, t.teacher_bn) == (
    "prob_sse",
    0.97,
    0.99,
    "ema_buffers",
  )
  assert tuple(c.data.scales) == (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5)
  strong = c.data.strong
  assert t.strong and (strong.order, strong.jitter) == (("jitter", "gray"), (0.4, 0.4, 0.4, 0.1))
  assert (strong.jitter_p, strong.gray_p) == (0.8, 0.2)
  plain = of_file("cutmix_seg_voc")("quirks=yes")
  assert (plain.method.mean_teacher.strong, plain.model.deeplabv2.summed) == (False, 2)
  city = of_file("cutmix_seg_city")()
  assert numbers_of(city) == (40_000, 4, 4, 256, 512, 3e-6, 0, 10, "kernels")
  assert tuple(city.data.scales) == (1.0,) and city.data.flip == 0.5


def test_a_vit_brings_its_head_sides_and_optimizer():
  for name, side in (("own", 518), ("cps_voc", 518), ("cps_city", 798), ("cps_camvid", 322)):
    c = of_file(name)("backbone=dinov2_base,method=unimatch")
    assert (c.model.head, c.model.dpt.width, tuple(c.data.crop)) == ("dpt", 128, (side, side))
    o = c.optimizer
    assert (o.name, o.learning_rate, o.head_multiplier, o.weight_decay) == ("adamw", 5e-6, 40, 0.01)
    assert c.model.pretrained == "data/weights/dinov2_base"
  assert tuple(of_file("cps_city")("backbone=dinov2_small").eval.window) == (798, 798)
  model = of_file("own")("backbone=dinov3_7b").model
  assert (model.dpt.width, tuple(model.dpt.level_widths)) == (512, (4096,) * 4)
  vits = [name for name in network.BACKBONES if name.startswith("dino")]
  assert {name.partition("_")[2] for name in vits} == networks.DPT.keys()


def test_own_pictures_take_any_list():
  get = of_file("own")
  assert (get().data.labeled, get("ratio=1_8").data.labeled) == ("labeled", "labeled_1_8")
  assert get().data.unlabeled == "rest" and get().optimizer.learning_rate == 0.0025
  # Its loss is halved: twice the rate for the same update, half the decay for the same pull.
  o, halved = get().optimizer, get("method=unimatch").optimizer
  assert halved.learning_rate / 2 == o.learning_rate
  assert halved.learning_rate * halved.weight_decay == o.learning_rate * o.weight_decay


def test_methods_take_what_their_authors_chose_for_the_data_set():
  city, voc = of_file("cps_city"), of_file("cps_voc")
  for method, of_city in (("unimatch", 0), ("fixmatch", 0), ("unimatch_v2", 0.95)):
    assert city(f"method={method}").method.threshold == of_city
    assert voc(f"method={method}").method.threshold == 0.95
  assert city("method=prevmatch").method.prevmatch.weighting == "confidence"
  assert voc("method=prevmatch").method.prevmatch.weighting == "threshold"
  assert voc("method=gct").method.weight_ramp_steps == 3 * 1157  # three epochs at 1/8
  for method in ("u2pl", "reco", "pseudoseg"):
    theirs = {"voc": of_file(f"{method}_voc")(), "city": of_file(f"{method}_city")()}
    for name, get in (("voc", voc), ("city", city)):
      c, t = get(f"method={method}"), theirs[name]
      assert c.method.reco.scales == t.method.reco.scales
      assert c.method.pseudoseg.cutout == t.method.pseudoseg.cutout
      assert c.model.deeplabv3plus.auxiliary == t.model.deeplabv3plus.auxiliary
      if method == "u2pl":
        assert c.method.loss_group == t.method.loss_group == 0
        # One epoch of the labeled pictures alone on VOC.
        epochs = [x.method.u2pl.supervised_steps / x.method.u2pl.copied_steps for x in (c, t)]
        assert epochs == [name == "voc"] * 2
  assert not city("method=u2pl,backbone=mobilenet_v2").model.deeplabv3plus.auxiliary
