"""SViT tiny on COCO for detectron2's tools/lazyconfig_train_net.py (docs/detectron2.md).

Schedule and optimiser are the paper's sparse finetuning: 6 epochs of 117,266 pictures at batch 16, from the
dense weights in train.init_checkpoint. detectron2 has no crop-and-rescale policy; `svit train` has.
"""

import torch
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data import transforms as T
from detectron2.evaluation import COCOEvaluator
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import MultiStepParamScheduler
from omegaconf import OmegaConf

from svit.detectors.detectron2_tools import ResizeAsCv2, build_rcnn, count_as_the_ledger

EPOCH = 7330  # steps
count_as_the_ledger()  # in tools/analyze_model.py

model = L(build_rcnn)(preset="svit-adapter-t", overrides=[])

dataloader = OmegaConf.create()
dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="coco_2017_train"),
    mapper=L(DatasetMapper)(
        is_train=True,
        augmentations=[
            L(ResizeAsCv2)(short_sides=list(range(480, 801, 32)), long_side=1333),
            L(T.RandomFlip)(horizontal=True),
        ],
        image_format="RGB",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    ),
    total_batch_size=16,
    num_workers=4,
)
dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="coco_2017_val", filter_empty=False),
    mapper=L(DatasetMapper)(
        is_train=False,
        augmentations=[L(ResizeAsCv2)(short_sides=800, long_side=1333)],
        image_format="RGB",
    ),
    num_workers=4,
)
dataloader.evaluator = L(COCOEvaluator)(dataset_name="${..test.dataset.names}")

optimizer = L(torch.optim.AdamW)(
    params=L(get_default_optimizer_params)(
        base_lr="${..lr}",
        weight_decay_norm=0.0,
        weight_decay_bias=0.0,
        overrides={"pos_embed": {"weight_decay": 0.0}, "level_embed": {"weight_decay": 0.0}},
    ),
    lr=1e-5,
    weight_decay=1e-6,
)

train = OmegaConf.create(
    dict(
        output_dir="./output",
        init_checkpoint="",
        max_iter=6 * EPOCH,
        amp=dict(enabled=True),
        ddp=dict(broadcast_buffers=False, find_unused_parameters=False, fp16_compression=False),
        checkpointer=dict(period=5000, max_to_keep=100),
        eval_period=EPOCH,
        log_period=20,
        device="cuda",
    )
)

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1], milestones=[4 * EPOCH], num_updates=6 * EPOCH
    ),
    warmup_length=500 / (6 * EPOCH),
    warmup_method="linear",
    warmup_factor=0.001,
)
