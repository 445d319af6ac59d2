"""Names of COCO's 80 classes in the order of their category ids, for pictures without annotations.

Source: `annotations/instances_val2017.json` of cocodataset.org.
"""

from __future__ import annotations

_NAMES = """\
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire
hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports
ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine
glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot
dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop,
mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock,
vase, scissors, teddy bear, hair drier, toothbrush
"""
COCO_CLASSES: tuple[str, ...] = tuple(" ".join(_NAMES.split()).split(", "))


def likely_names(classes: int) -> tuple[str, ...]:
    """Names of the classes of weights that do not name them: COCO's for 80, else none."""
    return COCO_CLASSES if classes == len(COCO_CLASSES) else ()
