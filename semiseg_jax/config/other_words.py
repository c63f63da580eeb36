"""Words that other code bases have for keys of this one."""

from collections.abc import Iterable

_WORDS = {
  "optimizer.learning_rate": ("lr", "base_lr", "init_lr", "learning_rate"),
  "optimizer.schedule": ("scheduler", "lr_scheduler", "lr_schedule", "policy"),
  "optimizer.warmup_steps": ("warmup", "warmup_iters", "warmup_epochs"),
  "optimizer.weight_decay": ("wd", "l2"),
  "optimizer.name": ("optimizer", "optim", "opt"),
  "train.steps": (
    *("step", "num_steps", "max_steps", "total_steps", "train_steps", "iterations", "iters"),
    *("num_iters", "max_iters", "max_iterations", "epoch", "epochs", "num_epochs", "max_epochs"),
  ),
  "train.batch_labeled": ("batch_size", "batchsize", "batch", "bs", "train_batch_size"),
  "train.accumulate": ("accumulation", "grad_accum", "accumulate_grad_batches", "accum_steps"),
  "train.log_every": ("log_interval", "log_freq", "print_freq", "log_steps"),
  "data.root": ("dataset", "data_dir", "data_root", "data_path", "dataset_path", "path", "dir"),
  "data.crop": ("crop_size", "image_size", "img_size", "input_size", "size", "resolution"),
  "data.workers": ("num_workers", "n_workers", "nworkers"),
  "data.labeled": ("labels", "labelled", "split", "labeled_split", "labeled_id_path"),
  "data.unlabeled": ("unlabelled", "unlabeled_split", "unlabeled_id_path"),
  "data.val": ("validation", "val_split", "valid", "test"),
  "data.augment": ("augmentation", "augmentations", "transforms", "aug"),
  "model.backbone": ("arch", "architecture", "encoder", "network"),
  "model.head": ("decoder", "decode_head"),
  "model.pretrained": ("weights", "imagenet", "backbone_weights"),
  "model.dtype": ("precision", "amp", "fp16", "bf16", "half", "mixed_precision"),
  "method.name": ("algorithm", "trainer"),
  "method.weight": ("lambda", "lambda_u", "unsup_weight", "unsupervised_weight", "mu"),
  "method.supervised_loss": ("loss", "criterion", "loss_fn"),
  "method.networks": ("num_networks", "n_networks"),
  "eval.every": ("eval_interval", "val_interval", "val_every", "eval_freq", "eval_steps"),
  "checkpoint.every": ("save_every", "save_interval", "save_freq", "save_steps"),
  "init_from": ("resume", "resume_from", "load_from", "checkpoint_path"),
  "seed": ("random_seed", "manual_seed"),
  "runtime.replica": ("gpus", "devices", "num_gpus", "num_devices"),
}


def meant(path: str, known: Iterable[str]) -> str | None:
  """Returns the key of this program for which others say the last word of `path`.

  Args:
    path: a path that is no key, such as 'lr' or 'train.lr'.
    known: the keys there are.
  """
  word = path.rpartition(".")[2].lower().replace("-", "_")
  return next((key for key, words in _WORDS.items() if word in words and key in set(known)), None)
