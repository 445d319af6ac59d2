"""SViT small on COCO: the tiny one's configuration with 4 epochs of finetuning (docs/detectron2.md)."""

from copy import deepcopy

from .lazy_svit_adapter_t import EPOCH, dataloader, lr_multiplier, model, optimizer, train

__all__ = ["dataloader", "lr_multiplier", "model", "optimizer", "train"]

# imported as a module it must not change the tiny one's
dataloader, lr_multiplier, model, optimizer, train = map(
    deepcopy, (dataloader, lr_multiplier, model, optimizer, train)
)
model.preset = "svit-adapter-s"
train.max_iter = 4 * EPOCH
lr_multiplier.scheduler.milestones = [3 * EPOCH]
lr_multiplier.scheduler.num_updates = train.max_iter
lr_multiplier.warmup_length = 500 / train.max_iter
