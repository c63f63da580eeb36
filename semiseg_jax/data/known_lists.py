"""Published lists recognized by SHA-256, so that a result names the list it was obtained on.

Digests are over the ids (VOC `2007_000032`, Cityscapes `CITY_SEQ_FRAME`), each followed by a
newline. The lists are those of CPS (TorchSemiSeg), U2PL, PseudoSeg, s4GAN, CAC, CCT, ST++,
UniMatch V2 and PrevMatch; the first three blended VOC lists and all four Cityscapes lists of
UniMatch are those of CPS.
"""

import hashlib
from collections.abc import Collection, Sequence

from semiseg_jax.data import lists_of_cac, lists_of_cps, lists_of_unimatch

_PAIRS = {**lists_of_cac.LISTS, **lists_of_unimatch.LISTS}

# What a digest is over.
FILE = "file"  # the ids in the order of the published file
SORTED = "sorted"  # the sorted ids; the file's order differs or is not known
BOTH = "file and sorted"  # the file is sorted

KNOWN: dict[str, tuple[str, str]] = {  # digest -> (name, what it is over)
  "d1326bd532648d73bc4b1bd275434eba81930982dc7401a65a8cecb26c028e24": (
    "VOC train_aug (10,582)",
    SORTED,
  ),
  "aa623bd2c8ce4443a8aaae51c524c0eb165e8e44caf6aa9e3ad33d7b75a3ef20": (
    "VOC 2012 train (1,464)",
    BOTH,
  ),
  "cdc1326d12f69ce5153aa5da04a4d8783e146868d42d19f82f44e74b97ac907d": (
    "VOC 2012 val (1,449)",
    SORTED,
  ),
  "7dada8ccc5eb6309b4b81e172dfc24f0d83ea72078675083778ca10487182748": (
    "VOC train_aug 1/16 of CPS (TorchSemiSeg)",
    BOTH,
  ),
  "df63f50a798512c3befb5364052733bd8bc169f609e034e9f55b5853798ead10": (
    "VOC train_aug 1/8 of CPS (TorchSemiSeg)",
    BOTH,
  ),
  "62c450787069b36d88ea7bb35895a808885720ae833bae8b9c81775731062ea1": (
    "VOC train_aug 1/4 of CPS (TorchSemiSeg)",
    BOTH,
  ),
  "192132b4f645339dd143850359d4e27bb62ba3ce447553a07de23fbff4f0c8b9": (
    "VOC train_aug 1/2 of CPS (TorchSemiSeg)",
    BOTH,
  ),
  "a2a472eb74fcf8f3ec462d1151f98f68bfcbded3fbfd08c08a49b2d9d7a51ca5": (
    "VOC train 1/16 (92) of PseudoSeg, classic of U2PL",
    FILE,
  ),
  "7d364bb88766ba220e68e01eb066d94e714349209af73608eaf8940ca2cdedc9": (
    "VOC train 1/8 (183) of PseudoSeg, classic of U2PL",
    FILE,
  ),
  "4b58843de93dc6927e66a6ae10e0dd257f70ddc370c0875a42a79419290d745a": (
    "VOC train 1/4 (366) of PseudoSeg, classic of U2PL",
    FILE,
  ),
  "36d0ca77701b8ad858e034da04922153c3ceeb11b67e768a6b28b28224cd1be5": (
    "VOC train 1/2 (732), classic of U2PL",
    FILE,
  ),
  "0983796fbf8538213b40395cf9c26a1fe8ef382192b2ed52c52e63fa3e1d0968": (
    "VOC train_aug 1/16, blender of U2PL",
    FILE,
  ),
  "5ef9152185868350d9cd1056f885d71e9a4a1857a3490da6af74d83c11fc0189": (
    "VOC train_aug 1/8, blender of U2PL",
    FILE,
  ),
  "15a7c7648a09706885cc602222959ce12aa11600d43747165088ce1afd4e77e9": (
    "VOC train_aug 1/4, blender of U2PL",
    FILE,
  ),
  "705eb519797522c8604c87ae583742fada0de06c4282a26115eb6c78377ec61f": (
    "VOC train_aug 1/2, blender of U2PL",
    FILE,
  ),
  "d6971339b1c8b30d6f38b743b2f52e393f1e3415a388112eded8a5b51fc602d8": (
    "VOC train_aug 1/50, split 0 of s4GAN",
    FILE,
  ),
  "c341ab440ed5e367801aaa739fc43cbf59de009c61ffa2391346eb7474506280": (
    "VOC train_aug 1/20, split 0 of s4GAN",
    FILE,
  ),
  "0827212b096103715b0bf45b12879baaec89a791d332587701355491f9aab161": (
    "VOC train_aug 1/8, split 0 of s4GAN",
    FILE,
  ),
  "26da5aeea0b9dcfb86ab5e03bc73ff8b6ea7226ace4588e90abb4bed9b894858": (
    "Cityscapes train (2,975) in the order of CPS (TorchSemiSeg)",
    FILE,
  ),
  "7f56ebec1d2eb8db59a3600206fcf7f05b53a7f3a8cf66381e6de73356b9eb7a": (
    "Cityscapes train (2,975)",
    SORTED,
  ),
  "4388168ca1b8c9bb4ba35c791abab6dbbc3f8962016691e43813ea3a2a923d38": (
    "Cityscapes val (500) in the order of CPS (TorchSemiSeg)",
    FILE,
  ),
  "73099b252b778d6fa89467ad05a7068b8a6a0f931693f909e1acbf189a36fb52": (
    "Cityscapes val (500)",
    SORTED,
  ),
  "c072620221b898904e21535cf9f0a90c921943e13eeff13591953ef67974e6a1": (
    "Cityscapes train 1/16 of CPS (TorchSemiSeg)",
    FILE,
  ),
  "536c6df21107ebf8e5084570ab102a02e5bd64dd328c3ffcd37f1e07cb4e882c": (
    "Cityscapes train 1/8 of CPS (TorchSemiSeg)",
    FILE,
  ),
  "eb8b3080da3ac7fb32e6e7df92092101a1fd28e7eed598631876ce0022117ea3": (
    "Cityscapes train 1/4 of CPS (TorchSemiSeg)",
    FILE,
  ),
  "faa172ee63df3bdea0235501fd3c178fb96df6ca195047b9dfa876095d263f69": (
    "Cityscapes train 1/2 of CPS (TorchSemiSeg)",
    FILE,
  ),
  "245912b4cfa4aeebdee209a0c58d162ce25363ee6b5808506c8a3535cad8e585": (
    "Cityscapes train 1/16 of U2PL",
    FILE,
  ),
  "74ce9f06b3f64f5eb01380346b002d023bb7b57d77922cda99580fb0a53bc029": (
    "Cityscapes train 1/8 (372) of U2PL, list 0 of CAC",
    FILE,
  ),
  "f2fbab7218f617842f007bb96b885a02725cdfb008ab0f326066981a618535e5": (
    "Cityscapes train 1/4 of U2PL",
    FILE,
  ),
  "a5ad4a370c2b22b6979781de0ade6917f66ebb2bbce933da4da9b71b89da0203": (
    "Cityscapes train 1/2 of U2PL",
    FILE,
  ),
  **{labeled: (name, FILE) for name, (labeled, _) in _PAIRS.items()},
  **{file: (name, FILE) for name, file in lists_of_cps.FILES.items()},
  **{ids: (name, SORTED) for name, ids in lists_of_cps.SETS.items()},
}

# Digest of the sorted ids of VOC train_aug, of Cityscapes train, or of ADE20K train, without a
# labeled list -> that list. They also tell the labeled ids themselves where only the digest of
# their published order is known.
RESTS: dict[str, str] = {
  "23fd9afa1c61151cd65d394f1f574b0e7ddee098e27e0640a55779a322360e44": (
    "VOC train 1/16 (92) of PseudoSeg, classic of U2PL"
  ),
  "ae3608acfb519956f21e1ac37c01248801276b6015bed43b0eb02d2445392ff1": (
    "VOC train 1/8 (183) of PseudoSeg, classic of U2PL"
  ),
  "b9a203a2f84f7bb362546401ecd17cf728da8c7bc3927b463003f728e433c6f3": (
    "VOC train 1/4 (366) of PseudoSeg, classic of U2PL"
  ),
  "944eea998e978483fe3c1ccd99a2e1f2dbd643c84453980bcc331c44304132bd": (
    "VOC train 1/2 (732), classic of U2PL"
  ),
  "e74502571e6d172bdfe6cb3257a58fcb046e4464aa4765b54ec170e73a2f4f53": "VOC 2012 train (1,464)",
  "888a9b418a483ee26972583fb7859e604a1e1abe2a64a555bcfdfacc0094d09e": (
    "VOC train_aug 1/16, blender of U2PL"
  ),
  "40cf051699ba5932315edb32e6dcff7351579f9b89220a90b5e6b6eb44ce1618": (
    "VOC train_aug 1/8, blender of U2PL"
  ),
  "77029dd0ab2af4c3188d5e008d1ed6581fddc6cce57d67e41e9f7b18bc550aa6": (
    "VOC train_aug 1/4, blender of U2PL"
  ),
  "1c34ca0f709e58ceb60a77cc9ac27fcf66584656b37e03909c4bcf30c29f390a": (
    "VOC train_aug 1/2, blender of U2PL"
  ),
  "aabef149b5e594b72a98a8b0f0a0475ef50f4743c38b31d1f3a7059dfa6cd583": (
    "VOC train_aug 1/50, split 0 of s4GAN"
  ),
  "45b052baa592069663e6eeb8b2f18ea01848aef465289354086c8733678fc52c": (
    "VOC train_aug 1/20, split 0 of s4GAN"
  ),
  "65b4a05812ad70a8ce60d69267b1c76d19d7d109305985687d4c4accafa85feb": (
    "VOC train_aug 1/8, split 0 of s4GAN"
  ),
  "d08f2cff541ee593b9f1d84c50364d13f0dbefcbfbf981d6e8bc16b7a375d43a": (
    "Cityscapes train 1/8 (372) of U2PL, list 0 of CAC"
  ),
  **{rest: name for name, (_, rest) in _PAIRS.items()},
  **{rest: name for name, rest in lists_of_cps.RESTS.items()},
}
_WHOLES = {"Cityscapes": "Cityscapes train", "ADE20K": "ADE20K train", "VOC": "VOC train_aug"}


def digest(ids: Sequence[str]) -> str:
  """SHA-256, in hexadecimal, of the ids in UTF-8, each followed by a newline."""
  return hashlib.sha256("".join(f"{id_}\n" for id_ in ids).encode()).hexdigest()


def name_of(ids: Sequence[str], train: Collection[str] = ()) -> str | None:
  """The published list that `ids` are, None when they are none of them.

  Args:
    ids: in the order of the list.
    train: all training ids; with them labeled lists are also recognized by what they leave.

  Returns:
    The list's name; "NAME, sorted" where the file is known in another order or only as a set; "same
    ids as NAME, other order"; for a set of which only the sorted digest is known "same ids as NAME,
    not sorted".
  """
  name, over = KNOWN.get(digest(ids), (None, None))
  if name is not None:
    return f"{name}, sorted" if over == SORTED else name
  as_set = digest(sorted(ids))
  name, over = KNOWN.get(as_set, (None, None))
  if name is not None:
    return f"same ids as {name}, {'not sorted' if over == SORTED else 'other order'}"
  if as_set in RESTS:
    whole = _WHOLES.get(RESTS[as_set].split()[0], "VOC train_aug")
    return f"{whole} without {RESTS[as_set]}"
  left = RESTS.get(digest(sorted(set(train) - set(ids)))) if train else None
  return left and f"same ids as {left}, other order"


def are_published_together(labeled: Sequence[str], unlabeled: Sequence[str]) -> bool:
  """Whether the two lists share pictures and were published so, as those of one run."""
  return (digest(labeled), digest(unlabeled)) in lists_of_cps.TOGETHER
