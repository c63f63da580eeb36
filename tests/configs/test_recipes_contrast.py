"""The recipes as published: contrast of embeddings."""

from semiseg_jax.methods import contract
from tests.configs.files import numbers_of, of_file


def test_published_recipe_of_pixel_contrast():
  get = of_file("pixel_contrast_city")
  c, paddle, memory = get(), get("recipe=paddle"), get("memory=yes")
  assert numbers_of(c) == (40_000, 8, 8, 512, 1024, 0.01, 5e-4, 1, "all")
  assert numbers_of(paddle) == (60_000, 8, 8, 512, 1024, 0.01, 2e-4, 1, "all")
  o = c.method.pixel_contrast
  assert (o.temperature, o.base_temperature, o.max_samples, o.max_views) == (0.1, 0.07, 1024, 100)
  assert (o.weight, o.warmup_steps, o.memory, c.method.loss_group) == (0.1, 5000, 0, 2)
  assert len(o.class_weights) == 19 and abs(sum(o.class_weights) - 19) < 0.1
  p = paddle.method.pixel_contrast
  assert (p.warmup_steps, p.class_weights, paddle.model.projection.width) == (0, (), 720)
  assert (c.model.projection.width, paddle.model.hrnet.align_corners) == (256, False)
  q = memory.method.pixel_contrast
  assert (q.memory, q.memory_pixels, q.max_views, q.temperature) == (5000, 10, 1, 0.07)
  assert (q.weight, q.max_samples, q.warmup_steps) == (1.0, 1024, 5000)
  assert (c.data.labeled, get("ratio=1_8").data.labeled) == ("train", "labeled_1_8")
  assert [one.eval.every for one in (c, paddle, memory)] == [1000, 1000, 2000]
  camvid = of_file("pixel_contrast_camvid")
  c, memory = camvid(), camvid("memory=yes")
  assert numbers_of(c) == (30_000, 16, 8, 360, 480, 1e-3, 1e-4, 1, "all")
  assert numbers_of(memory) == (40_000, 16, 8, 360, 480, 0.01, 5e-4, 1, "all")
  o, q = c.method.pixel_contrast, memory.method.pixel_contrast
  assert (o.temperature, o.max_views, o.weight, o.warmup_steps) == (0.07, 100, 0.1, 5000)
  assert (q.temperature, q.max_views, q.weight, q.warmup_steps) == (0.07, 100, 0.1, 3000)
  assert (o.memory, q.memory, o.class_weights) == (0, 5000, ())


def test_published_recipes_of_u2pl():
  voc, city = of_file("u2pl_voc"), of_file("u2pl_city")
  # Steps of an epoch: ceil(unlabeled / GPUs) // pictures of each, over 80 and 200 epochs.
  for ratio, epoch in (("92", 655), ("1464", 570), ("662", 620), ("5291", 330)):
    c = voc(f"ratio={ratio}")
    assert numbers_of(c) == (80 * epoch, 16, 16, 513, 513, 1e-3, 1e-4, 10, "all")
    o = c.method.u2pl
    assert (o.supervised_steps, o.copied_steps) == (epoch, epoch)
  for ratio, epoch in (("1_16", 174), ("1_8", 163), ("1_4", 139), ("1_2", 93)):
    c = city(f"ratio={ratio}")
    assert numbers_of(c) == (200 * epoch, 16, 16, 769, 769, 0.01, 5e-4, 1, "all")
    assert (c.method.u2pl.supervised_steps, c.method.u2pl.copied_steps) == (0, epoch)
  assert (c.method.supervised_loss, c.method.ohem_threshold) == ("ohem", 0.7)
  assert round(c.method.ohem_kept_fraction * 2 * 769 * 769) == 100_000
  assert (tuple(c.eval.window), tuple(c.eval.stride)) == ((769, 769), (513, 513))
  assert c.model.deeplabv3plus.auxiliary and not voc().model.deeplabv3plus.auxiliary
  for get, gpus, group in ((voc, 4, 4), (city, 8, 2)):
    ours, released = get().method, get("quirks=yes").method
    o = ours.u2pl
    assert (ours.weight, o.weight_contrast, o.weight_auxiliary, o.decay) == (1, 0.1, 0.4, 0.99)
    assert (o.mix, o.mix_p, o.dropped, o.share, o.probability) == ("cutmix", 0.5, 20, 20, 0.3)
    assert (o.low_rank, o.high_rank, o.temperature, o.anchors, o.negatives) == (3, 20, 0.5, 256, 50)
    assert tuple(o.memory) == (50_000, 30_000) and o.entering == 30_000
    assert (ours.compat, ours.loss_group) == ((), 0)
    assert set(released.compat) == set(contract.find("u2pl").COMPAT)
    assert (released.u2pl.weight_contrast, released.loss_group) == (1 / gpus, group)
    assert get().eval.stack == "teacher"


def test_published_recipes_of_reco():
  voc, city = of_file("reco_voc")(), of_file("reco_city")()
  assert numbers_of(voc) == (40_000, 10, 10, 321, 321, 2.5e-3, 5e-4, 1, "all")
  assert numbers_of(city) == (40_000, 2, 2, 512, 512, 2.5e-3, 5e-4, 1, "all")
  for c, scales in ((voc, (0.5, 1.5)), (city, (1, 1))):
    o, strong = c.method.reco, c.data.strong
    assert (c.method.weight, o.weight_contrast, o.decay, o.mix) == (1, 1, 0.99, "classmix")
    assert (o.weak, o.strong, o.temperature, o.queries, o.negatives) == (0.7, 0.97, 0.5, 256, 512)
    assert tuple(o.scales) == tuple(c.data.scales) == scales
    assert c.optimizer.nesterov and c.eval.stack == "teacher"
    assert (tuple(strong.jitter), strong.jitter_p, strong.blur_p) == ((0.25,) * 4, 0.8, 0.5)
    assert (tuple(strong.order), tuple(strong.blur_sigma)) == (("jitter", "blur"), (0.15, 1.15))
  assert set(of_file("reco_voc")("quirks=yes").method.compat) == set(contract.find("reco").COMPAT)


def test_published_recipes_of_cac():
  voc, city = of_file("cac_voc"), of_file("cac_city")
  # 80 epochs of 1157 steps, whatever the list; the contrast from the sixth epoch on.
  for get, crop, rate, base in ((voc, 320, 1e-3, 400), (city, 720, 0.01, 2048)):
    for arg in ("", "ratio=cac2_1_4", "method=supervised", "ratio=full"):
      c = get(arg)
      assert numbers_of(c) == (92_560, 8, 8, crop, crop, rate, 1e-4, 10, "all"), arg
      assert (c.optimizer.momentum, c.optimizer.power, c.eval.mode) == (0.9, 0.9, "whole")
      assert (c.data.augment, c.data.base_size, c.data.padding) == ("cac", base, "mean_pixel")
      assert (tuple(c.data.scales), tuple(c.data.pair_scales)) == ((0.5, 2), (0.8, 2))
    m, o, strong = c.method, c.method.cac, c.data.strong
    assert (m.name, m.networks, m.weight, m.weight_ramp_steps) == ("cac", 1, 0.1, 0)
    assert (o.start, o.temperature, o.threshold) == (5785, 0.1, 0.75)
    assert tuple(strong.order) == ("blur", "jitter", "gray") and strong.blur_taps == 5
    assert tuple(strong.jitter) == (0.4, 0.4, 0.4, 0.1)
    assert (strong.blur_p, strong.jitter_p, strong.gray_p) == (0.5, 0.8, 0.2)
    assert (
      c.data.unlabeled == "all" and get("ratio=full,method=supervised").data.unlabeled == "rest"
    )
  # Negatives in the steady state, of 2, 2 and 4 GPUs; those of a step and GPU are 2 x selected.
  for c, group, selected, negatives in (
    (voc("quirks=yes"), 4, 6400, 51_200),
    (voc("quirks=yes,backbone=resnet101"), 4, 6400, 76_800),
    (city("quirks=yes"), 2, 16_200, 129_600),
  ):
    o = c.method.cac
    assert (c.method.loss_group, o.negatives * group) == (group, selected)
    assert o.bank * 2 * 8 * o.negatives == negatives
    assert c.method.compat == contract.find("cac").COMPAT
    jitters = "jitter" if c.data.base_size == 2048 else "none"
    assert (c.data.labeled_photometry, c.data.unlabeled_photometry) == (jitters, "none")
  baseline = voc("method=supervised,quirks=yes")
  assert (baseline.method.loss_group, baseline.model.projection.kind) == (4, "none")
  assert (voc().method.loss_group, voc().method.compat) == (0, ())
  assert voc("ratio=cac1_1_16").data.labeled == "labeled_cac1_1_16"
  psp = voc("backbone=resnet50_v1s,ratio=1464")
  assert (psp.model.head, psp.model.projection.kind) == ("pspnet", "cac_psp")
  other = of_file("own")("method=cac")
  assert other.data.augment == "cac" and other.method.cac.start == other.train.steps // 16
