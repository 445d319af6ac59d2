"""Configurations for detectron2's own tools: lazy ones (Python) and yacs ones (YAML); docs/detectron2.md."""
