"""SViT workbench: see, measure and understand token pruning in detectors."""

__version__ = "0.1.0"
