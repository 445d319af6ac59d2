"""Data: reading images and COCO annotations, transforms, validation, the synthetic shapes world."""
