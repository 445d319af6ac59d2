"""The order in which training sees a data set: a function of seed and step, shared over ranks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from svit.data.samples import Images
from svit.data.validate import CocoError


def batches(
    images: Images,
    batch: int,
    seed: int,
    start_step: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[tuple[int, int, list[int]]]:
    """The endless order of training, a function of the seed and the step alone.

    Every epoch shows each picture at least once. A batch holds pictures of one aspect group (wide, or not);
    the last batch of a group is filled from the group's start, as mmdet's `DistributedGroupSampler` does.
    Ranks take consecutive parts of the batch: together they see what one process alone would see.

    Args:
        batch: images a step over all ranks.
        start_step: the step to go on with.

    Yields: step, epoch (both from 0), and the dataset indices of this rank.

    Raises:
        CocoError: the data set is smaller than the batch.
        ValueError: the ranks cannot share the batch evenly.
    """
    groups = np.asarray(images.aspect_groups)
    _check_batch(len(groups), batch, rank, world)
    share = batch // world
    mine = slice(rank * share, (rank + 1) * share)
    steps = _epoch_batches(groups, batch, seed, 0).shape[0]
    return _steps(groups, batch, seed, start_step, steps, mine)


def _check_batch(images: int, batch: int, rank: int, world: int) -> None:
    if not 0 <= rank < world:
        raise ValueError(f"expected a rank from 0 to {world - 1}, found {rank}")
    if batch < 1 or batch % world:
        raise ValueError(f"expected a batch that {world} ranks share evenly, found {batch}")
    if images < batch:
        raise CocoError(
            f"expected at least {batch} pictures (train.batch), found {images}; "
            "lower train.batch or add pictures"
        )


def _steps(
    groups: np.ndarray, batch: int, seed: int, start_step: int, steps: int, mine: slice
) -> Iterator[tuple[int, int, list[int]]]:
    step = start_step
    while True:
        epoch, first = divmod(step, steps)
        for indices in _epoch_batches(groups, batch, seed, epoch)[first:]:
            yield step, epoch, indices[mine].tolist()
            step += 1


def _epoch_batches(groups: np.ndarray, batch: int, seed: int, epoch: int) -> np.ndarray:
    """Dataset indices of all batches of an epoch: int64 (steps, batch)."""
    rng = np.random.default_rng([seed, epoch])
    rows = []
    for group in np.unique(groups):
        members = rng.permutation(np.flatnonzero(groups == group))
        full = -(-len(members) // batch) * batch
        rows.append(np.resize(members, full).reshape(-1, batch))
    return rng.permutation(np.concatenate(rows))
