"""The lists of ST++, UniMatch V2 and PrevMatch by their digests, counted from their authors' files.

ST++ drew three lists of each size: its 92 of VOC are three lists of PseudoSeg (16_clean_3, _14 and
_20), its Cityscapes 1/8 and 1/4 are those of CAC, and its 1/30 is in UniMatch, too.  PrevMatch has
the lists of UniMatch V2 for ADE20K, but 632 pictures at 1/32 where V2 has 631.
"""

# Name -> (digest of the labeled ids in the order of the file, digest of the sorted unlabeled ids).
LISTS: dict[str, tuple[str, str]] = {
  "VOC train 1/16 (92), list 1 of ST++": (
    "d9a31f5d479024a4bec996f9f4059ddf4877ba18383e282aa3a403b8e31e485e",
    "1c8a745e6fcf4ad72a2f713c40a0ae914a1f51bec32ac74d0bf1f53c3fda9e89",
  ),
  "VOC train 1/16 (92), list 2 of ST++": (
    "0fec5a3639a87837aea30609d25d5a45b3234e875be887c314d1808a3c9b9786",
    "cc2d4cee368f48144788fee6060c098edd67cad3b5d63fb3853c5525aa24c595",
  ),
  "Cityscapes train 1/30 (100), list 0 of ST++": (
    "6ed2d223a80f5313026e668f4e173046f5349c3d24313fab341ff960b091e2f1",
    "7e2d801b8bc61d4aeb70f983a2f49b4cfe7d8781d0cdc20fd865172639481568",
  ),
  "Cityscapes train 1/30 (100), list 1 of ST++": (
    "09d766426b0ffd81e6da46fa9d0678df64a3c0aa7295521e49e1932234523f16",
    "ff08126aad4b2e35beab146e126532142ca5ae16bc903ca191a0f51c457e968b",
  ),
  "Cityscapes train 1/30 (100), list 2 of ST++": (
    "50de09e5f193f0cdd2053d1cc683861a67f54bf49ed434a14adeca1e29862d4a",
    "f6b675610ccb07e8c27eb1962c50cb85ec79127966f86d0785c649c1033e9b85",
  ),
  "ADE20K train 1/64 (316) of UniMatch V2": (
    "88f98730d1e1f51976ba997b713a885761c15addfa79820c368deba280d1a480",
    "35439a80d82a1f498dcbd23cff89ca82c16f61dd2fd809cdab1c430550ea4833",
  ),
  "ADE20K train 1/32 (631) of UniMatch V2": (
    "8c031e909f4d88c9b61b87350fa0e4276f8a59e9d3209dcbef1e1e034f8aec43",
    "13146e923c52bdd1c90f822ce2e84664642317b1c89542187df7a03321a8fa81",
  ),
  "ADE20K train 1/16 (1263) of UniMatch V2": (
    "945c6b0d382e712baeb922020b14c67e3696af5c978725a2fe69200e95409729",
    "d38caba7d26aae5c079c876a7f6bd56bf17a68d31700a75945634bebca7d9ef2",
  ),
  "ADE20K train 1/8 (2526) of UniMatch V2": (
    "9c7c551a6bd5cee3150b6d6f085bac5b48c082381d224ab698b389ad0a8bcc2c",
    "40a26ce7c86645b30f6c53cf402540c6a222e74f8d9778baf6dbec15016f3707",
  ),
  "ADE20K train 1/4 (5052) of UniMatch V2": (
    "39d38dd083ede7c183ae94b1eab6bafec6aedcbd21a4cbee473126863878d55b",
    "80259621775de341b8162763acf2a358b03b8d178865ee790d6df2d4385984a7",
  ),
  "ADE20K train 1/2 (10105) of UniMatch V2": (
    "973f1232c41bcfe8f9df7bc69afcda2a91a42c67c2ab33775c9176fb441638a5",
    "551155f7376d2d6c706bd3d26864edc83eecf876bf0e95b161890fab82dd6920",
  ),
  "ADE20K train 1/128 (158) of PrevMatch": (
    "7d90d3b1f04e6061245d49944b2d3192727f327bcf6c8dda645b7cb169f51b04",
    "e39f79fcba2a11269cd968cb6ff02d27fc8a93773ff05b36084527131c4f9e74",
  ),
  "ADE20K train 1/32 (632) of PrevMatch": (
    "5d4b5d8662e134bd09cd80fbecc8e3471e7c89a2dcb6dfb3b3c31d6a84238e52",
    "b2d467997483fbde50b4adea44552ffe64e70d3c22e3b606c1b531380f3d299e",
  ),
}
