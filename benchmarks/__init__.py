"""Measurements that the README and issues quote; each module is a command."""
