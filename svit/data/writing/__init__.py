"""Data sets in COCO's layout: how a folder is written, and what is converted into one."""
