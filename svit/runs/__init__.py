"""A recorded run is a folder: written so that a kill loses one shard, read without torch."""
