"""Measurements that the README and issues quote; each module is a command."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
