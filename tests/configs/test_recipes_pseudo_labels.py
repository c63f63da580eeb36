"""The recipes as published: pseudo labels and strong views."""

from semiseg_jax.methods import contract
from tests.configs.files import numbers_of, of_file


def test_published_recipe_of_pseudoseg():
  voc, coco = (of_file(name) for name in ("pseudoseg_voc", "pseudoseg_coco"))
  c, defects, weakly = voc("ratio=92"), voc("quirks=yes"), voc("image_labels=yes")
  assert numbers_of(c) == (30_000, 64, 64, 513, 513, 7e-3, 1e-4, 1, "kernels")
  m, o = c.method, c.method.pseudoseg
  assert (m.weight, m.networks, m.weight_ramp_steps, m.compat) == (1.0, 1, 0, ())
  assert (o.share, o.temperature, o.width, o.cutout) == (0.5, 0.5, 128, 100)
  assert (o.background, o.image_labels, c.data.unlabeled) == (True, "predicted", "all")
  assert tuple(c.data.scales) == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
  strong = c.data.strong
  assert (tuple(strong.order), strong.jitter_p) == (("jitter",), 1.0)
  assert (tuple(strong.jitter), strong.jitter_rule) == ((0.5, 0.5, 0.5, 0.25), "tensorflow")
  assert defects.method.compat == contract.find("pseudoseg").COMPAT
  assert (defects.method.loss_group, defects.train.bn_group) == (4, 4)
  assert (weakly.method.pseudoseg.image_labels, bool(weakly.data.targets)) == ("stored", True)
  assert numbers_of(coco("ratio=1_32"))[:3] == (200_000, 64, 64)


def test_published_recipe_of_prevmatch():
  voc, city, quirks = (
    of_file(name) for name in ("prevmatch_voc", "prevmatch_city", "prevmatch_city")
  )
  c = voc("ratio=92")
  assert numbers_of(c) == (104_880, 8, 8, 321, 321, 1e-3, 1e-4, 10, "all")
  m, o = c.method, c.method.prevmatch
  assert (m.name, m.threshold, m.weight, m.networks) == ("prevmatch", 0.95, 1.0, 1)
  assert (o.queue, o.models, o.random_models, o.every) == (8, 3, True, 5244)
  assert (o.threshold_previous, o.weighting, o.feature_share) == (0.9, "threshold", 0.5)
  c = city("ratio=1_16")
  assert numbers_of(c) == (83_520, 8, 8, 801, 801, 5e-3, 1e-4, 1, "all")
  m, o = c.method, c.method.prevmatch
  assert (m.threshold, m.supervised_loss, o.weighting, o.every) == (0, "ohem", "confidence", 4176)
  assert round(m.ohem_kept_fraction * 4 * 801 * 801) == 200_000
  m = quirks("quirks=yes").method
  assert (m.compat, m.loss_group) == (contract.find("prevmatch").COMPAT, 4)


def test_published_recipes_of_self_training():
  voc, city = of_file("self_training_voc"), of_file("self_training_city")
  # Batches of 16: labels alone, doubled below 200; labels with 5245 of 10,490 pictures; with all.
  for ratio, teacher, first, last in (
    ("92", 80 * 11, 80 * 661, 80 * 1316),
    ("183", 80 * 22, 80 * 656, 80 * 1301),
    ("1464", 80 * 91, 80 * 650, 80 * 1210),
  ):
    for method, before in (("st_plus_plus", (teacher, first)), ("self_training", (teacher,))):
      c = voc(f"ratio={ratio},method={method}")
      assert numbers_of(c) == (last, 8, 8, 321, 321, 1e-3, 1e-4, 10, "all")
      assert (tuple(c.method.self_training.steps), c.data.base_size) == (before, 400)
  c = city("ratio=1_8")
  assert numbers_of(c) == (240 * 325, 8, 8, 721, 721, 4e-3, 1e-4, 10, "all")
  assert (tuple(c.method.self_training.steps), c.data.base_size) == ((240 * 23, 240 * 174), 2048)
  for get in (voc, city):
    ours, released = (get(f"quirks={q}").method for q in ("no", "yes"))
    o = ours.self_training
    # Two GPUs: each has the statistics of its eight pictures.
    assert [get(f"quirks={q}").train.bn_group for q in ("no", "yes")] == [0, 4]
    assert (ours.networks, ours.weight, o.threshold, o.strong) == (1, 1, 0, True)
    assert (tuple(o.scales), o.flip) == ((0.5, 0.75, 1.0, 1.5, 2.0), True)
    assert (o.cutout_p, o.mixed, o.teacher_batch) == (0.5, True, 16)
    assert (o.ranked, o.checkpoints, o.reliable, o.relabel) == (True, 3, 0.5, False)
    assert (ours.compat, released.compat) == ((), contract.find("self_training").COMPAT)
    model = get("backbone=resnet50").model
    assert (model.backbone, model.output_stride) == ("resnet50", 8)
    assert model.deeplabv3plus.variant == "st"
    assert tuple(model.deeplabv3plus.aspp_rates) == (12, 24, 36)


def test_published_recipes_of_unimatch():
  voc, city = of_file("unimatch_voc"), of_file("unimatch_city")
  # Steps of an epoch: ceil(unlabeled / 4) // 2, over 80 and 240 epochs.
  for ratio, steps in (
    ("92", 104_880),
    ("183", 104_000),
    ("366", 102_160),
    ("732", 98_480),
    ("1464", 91_200),
    ("1_16", 99_200),
    ("1_8", 92_560),
    ("1_4", 79_360),
  ):
    c = voc(f"ratio={ratio}")
    assert numbers_of(c) == (steps, 8, 8, 321, 321, 1e-3, 1e-4, 10, "all")
    assert (c.data.labeled, c.method.supervised_loss) == (f"labeled_{ratio}", "ce")
  for ratio, steps in (("1_16", 83_760), ("1_8", 78_000), ("1_4", 66_960), ("1_2", 44_640)):
    assert numbers_of(city(f"ratio={ratio}")) == (steps, 8, 8, 801, 801, 5e-3, 1e-4, 1, "all")
  for get, threshold in ((voc, 0.95), (city, 0.0)):
    for method in ("unimatch", "fixmatch"):
      ours, released = (get(f"method={method},quirks={q}").method for q in ("no", "yes"))
      for m in (ours, released):
        assert (m.name, m.networks, m.weight, m.threshold, m.box_p) == (
          method,
          1,
          1,
          threshold,
          0.5,
        )
        assert (m.weight_ramp_steps, m.joint_statistics, m.fixmatch.teacher) == (0, True, "student")
      assert (ours.box_partner, ours.loss_group) == ("different_image", 0)
      assert (released.box_partner, released.loss_group) == ("same_image", 2)
  o = city().method
  assert o.supervised_loss == "ohem" and o.ohem_threshold == 0.7
  assert round(o.ohem_kept_fraction * 2 * 801 * 801) == 200_000
  assert (o.unimatch.feature_share, o.unimatch.feature_p) == (0.5, 0.5)
  assert (tuple(city().eval.window), tuple(city().eval.stride)) == ((801, 801), (534, 534))
  model = voc("backbone=resnet50_v1s").model
  assert (model.backbone, model.deeplabv3plus.variant) == ("resnet50_v1s", "unimatch")


def test_published_recipe_of_unimatch_with_the_lists_of_u2pl():
  get = of_file("unimatch_voc")
  # ceil(unlabeled / 2) // 4 steps an epoch: two GPUs of four pictures.
  for ratio, steps in (("1_16", 99_200), ("1_8", 92_560), ("1_4", 79_360)):
    c = get(f"ratio=u2pl_{ratio},quirks=yes")
    assert numbers_of(c) == (steps, 8, 8, 513, 513, 1e-3, 1e-4, 10, "all")
    assert (c.data.labeled, c.method.loss_group) == (f"labeled_u2pl_{ratio}", 4)


def test_an_averaged_teacher_on_the_recipe_of_unimatch():
  for name in ("unimatch_voc", "unimatch_city"):
    for method in ("fixmatch_average", "unimatch_v2"):
      c, plain = of_file(name)(f"method={method}"), of_file(name)("method=fixmatch")
      assert numbers_of(c) == numbers_of(plain) and c.eval.stack == "teacher"
    assert c.model.to_dict() == plain.model.to_dict()


def test_published_recipes_of_unimatch_v2_on_other_data():
  for name, ratio, recipe in (
    # epochs x floor(ceil(unlabeled / 4) / pictures of a GPU)
    ("unimatch_v2_city", "1_16", (180 * 349, 8, 8, 798, 798)),
    ("unimatch_v2_city", "1_2", (180 * 186, 8, 8, 798, 798)),
    ("unimatch_v2_ade", "1_64", (60 * 2487, 8, 8, 518, 518)),
    ("unimatch_v2_ade", "1_4", (60 * 1895, 8, 8, 518, 518)),
    ("unimatch_v2_coco", "1_512", (20 * 7378, 16, 16, 518, 518)),
    ("unimatch_v2_coco", "1_32", (20 * 7162, 16, 16, 518, 518)),
  ):
    c = of_file(name)(f"ratio={ratio}")
    assert numbers_of(c) == (*recipe, 5e-6, 0.01, 40, "all"), name
    assert (c.optimizer.name, c.method.threshold, c.eval.stack) == ("adamw", 0.95, "teacher")
    assert c.data.labeled == f"labeled_{ratio}"
    released = of_file(name)(f"ratio={ratio},quirks=yes").method.loss_group
    assert released == c.train.batch_labeled / 4
  c = of_file("unimatch_v2_city")()
  assert c.method.supervised_loss == "ohem"
  assert round(c.method.ohem_kept_fraction * 2 * 798 * 798) == 200_000
  assert (tuple(c.eval.window), tuple(c.eval.stride)) == ((798, 798), (532, 532))


def test_published_recipes_of_unimatch_v2():
  get = of_file("unimatch_v2_voc")
  for ratio, epoch in (("92", 655), ("183", 650), ("366", 638), ("732", 615), ("1464", 570)):
    c = get(f"ratio={ratio}")
    assert numbers_of(c) == (60 * epoch, 16, 16, 518, 518, 5e-6, 0.01, 40, "all")
    assert c.optimizer.name == "adamw" and tuple(c.optimizer.betas) == (0.9, 0.999)
  for method, name in (("unimatch_v2", "unimatch_v2"), ("fixmatch_average", "fixmatch")):
    ours, released = (get(f"method={method},quirks={q}") for q in ("no", "yes"))
    for one in (ours, released):
      m = one.method
      assert (m.name, m.weight, m.threshold, m.box_p, m.networks) == (name, 1, 0.95, 0.5, 1)
      assert (m.box_partner, one.eval.stack, m[name].decay) == ("reversed", "teacher", 0.996)
    assert (ours.method.loss_group, released.method.loss_group) == (0, 4)
  for size, width, levels in (
    ("small", 64, (48, 96, 192, 384)),
    ("base", 128, (96, 192, 384, 768)),
    ("large", 256, (256, 512, 1024, 1024)),
  ):
    for generation, side in ((2, 518), (3, 512)):
      c = get(f"backbone=dinov{generation}_{size}")
      assert (c.model.dpt.width, tuple(c.model.dpt.level_widths)) == (width, levels)
      assert tuple(c.data.crop) == (side, side)
