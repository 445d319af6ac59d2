"""Where the tokens of an unknown model lie: a patch is planted in empty pictures and looked for in blocks.

The model is run up to its first block only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from svit.probing.adapters.host import HostError

Grid = tuple[int, int]


PREFIX_MOST = 16  # class and register tokens of a model


class _Enough(Exception):
    """The first block was reached; a forward ends here."""


def picture_of(args: tuple, kwargs: dict[str, Any]) -> Tensor | None:
    """The first tensor (B, channels, height, width) that a module is called with."""
    given = [*args, *kwargs.values()]
    return next((one for one in given if isinstance(one, Tensor) and one.ndim == 4), None)


def entered(args: tuple, kwargs: dict[str, Any]) -> Tensor:
    """The pictures that a module is called with.

    Raises:
        HostError: there are none.
    """
    picture = picture_of(args, kwargs)
    if picture is None:
        raise HostError(
            "the model was called without pictures (batch, channels, height, width): attach to the part "
            "that is given them"
        )
    return picture


def given_sizes(args: tuple, kwargs: dict[str, Any]) -> list[Grid]:
    """Height and width of each picture that a model is called with, also in lists and dictionaries; empty
    where it is given none."""
    batch = picture_of(args, kwargs)
    pictures = list(_single([*args, *kwargs.values()])) if batch is None else batch
    return [(int(one.shape[-2]), int(one.shape[-1])) for one in pictures]


def _single(given: Any) -> Iterator[Tensor]:
    """Tensors (channels, height, width), at any depth."""
    if isinstance(given, Tensor):
        yield from [given] if given.ndim == 3 and len(given) in (1, 3, 4) else []
    elif isinstance(given, (list, tuple, Mapping)):
        for one in given.values() if isinstance(given, Mapping) else given:
            yield from _single(one)


def padded_only(pictures: Tensor, given: Sequence[Grid]) -> bool:
    """Whether pictures that were given with other sizes can have been padded right and below to their own:
    each colour of what lies beyond is one number.

    Args:
        given: of each picture; of another number of them the largest sides count for all.
    """
    if len(given) != len(pictures):
        given = [tuple(map(max, zip(*given)))] * len(pictures)
    return all(_one_colour(*one) for one in zip(pictures, given))


def _one_colour(picture: Tensor, given_hw: Grid) -> bool:
    rows, columns = given_hw
    if tuple(picture.shape[-2:]) == given_hw:
        return True
    if picture.shape[-2] < rows or picture.shape[-1] < columns:
        return False
    beyond = torch.cat([picture[:, rows:].flatten(1), picture[:, :rows, columns:].flatten(1)], 1)
    least, most = beyond.aminmax(dim=1)
    return bool((least == most).all())


def token_side(pictures: Tensor, grid: Grid) -> int:
    """Pixels of a token's side.

    Raises:
        HostError: tokens of the grid would not be squares.
    """
    sides = {one // cells for one, cells in zip(pictures.shape[-2:], grid)}
    if len(sides) > 1:
        raise HostError(
            f"a grid of {grid[0]}x{grid[1]} does not cut pictures of "
            f"{pictures.shape[-2]}x{pictures.shape[-1]} into squares: give another grid"
        )
    return sides.pop()


def find_prefix(
    run: Callable[[], Any],
    start: nn.Module,
    block: nn.Module,
    grid_hw: Callable[[Tensor], Grid],
    rows_of: Callable[[Tensor, Grid], Tensor],
) -> int:
    """How many rows stand before the tokens of the picture in the first block.

    Args:
        run: a forward of the model; its pictures are replaced.
        start: the module that is given pictures.
        block: the first one.
        rows_of: input of a block and grid -> (B, rows, C).

    Raises:
        HostError: planted patches do not come out in raster order behind a prefix, the grid does not fit, or
            `start` did not run before the block.
    """
    seen: dict[str, Any] = {}
    with torch.no_grad(), torch.random.fork_rng(), ExitStack() as hooks:
        plant = start.register_forward_pre_hook(
            lambda module, args, kwargs: _planted(module, args, kwargs, seen, grid_hw),
            with_kwargs=True,
            prepend=True,
        )
        hooks.callback(plant.remove)
        stop = block.register_forward_pre_hook(
            lambda module, args, kwargs: _stop(args, kwargs, seen), with_kwargs=True
        )
        hooks.callback(stop.remove)
        empty = _rows(run, seen, rows_of, None, start)
        rows, columns = seen["grid"]
        places = sorted({(0, 0), (0, columns - 1), (rows - 1, 0), (min(1, rows - 1), 0)})
        found = [(_rows(run, seen, rows_of, place, start) - empty).norm(dim=-1) for place in places]
    prefixes = set()
    for (row, column), change in zip(places, found):
        there = set(change.argmax(dim=1).tolist()) if change.max() > 0 else {-1}
        prefixes |= {one - row * columns - column for one in there}
    (prefix, *others) = sorted(prefixes)
    if others or prefix < 0:
        _check_count(empty.shape[1], (rows, columns))
        raise HostError(
            f"a patch planted at {places[0]} of a grid of {rows}x{columns} tokens, and at {places[1:]}, does "
            "not enter the blocks in raster order: the model reorders its tokens in a way unknown here; say "
            "how, as tokens=lambda x, grid: (batch, rows * columns, channels) in raster order"
        )
    return prefix


def _check_count(count: int, grid: Grid) -> None:
    """Refuses a grid that has more tokens than enter the blocks, or fewer than a prefix explains."""
    rows, columns = grid
    if not 0 <= count - rows * columns <= PREFIX_MOST:
        raise HostError(
            f"the grid does not fit: {rows}x{columns} are {rows * columns} tokens, and {count} enter the "
            "first block (class and register tokens among them): give another grid"
        )


def _planted(
    start: nn.Module,
    args: tuple,
    kwargs: dict[str, Any],
    seen: dict[str, Any],
    grid_hw: Callable[[Tensor], Grid],
) -> tuple[tuple, dict]:
    """The arguments with empty pictures, a bright patch in each at `seen["place"]`."""
    picture = entered(args, kwargs)
    seen["batch"], seen["grid"] = len(picture), grid_hw(picture)
    rows, columns = seen["grid"]
    if not isinstance(start, nn.Conv2d):
        token_side(picture, seen["grid"])
    new = torch.zeros_like(picture)
    if seen["place"] is not None:
        (row, column), (tall, wide) = seen["place"], picture.shape[-2:]
        tall, wide = tall // rows, wide // columns
        new[..., row * tall : (row + 1) * tall, column * wide : (column + 1) * wide] = 1
    swap = {id(picture): new}
    return (
        tuple(swap.get(id(one), one) for one in args),
        {name: swap.get(id(one), one) for name, one in kwargs.items()},
    )


def _stop(args: tuple, kwargs: dict[str, Any], seen: dict[str, Any]) -> None:
    seen["block"] = (args, kwargs)
    raise _Enough


def _rows(
    run: Callable[[], Any],
    seen: dict[str, Any],
    rows_of: Callable[[Tensor, Grid], Tensor],
    place: tuple[int, int] | None,
    start: nn.Module,
) -> Tensor:
    """What the first block is given where a patch lies at the place."""
    seen["place"] = place
    seen.pop("grid", None)
    try:
        run()
    except _Enough:
        if "grid" not in seen:
            raise HostError(
                f"{start} looks like the patch embedding and did not run before the first block: give the "
                "grid, as grid=(rows, columns) or --grid ROWSxCOLUMNS"
            ) from None
        args, kwargs = seen["block"]
        rows = rows_of(first_tensor((*args, *kwargs.values())), seen["grid"])
        return one_a_picture(rows, seen["batch"], "the first block").float()
    raise HostError(
        "a forward ended before its first block: attach to the model that runs its blocks"
    )


def one_a_picture(rows: Tensor, batch: int, where: str) -> Tensor:
    """The rows of a block (B, rows, C), where they are of one picture an item.

    Raises:
        HostError: they are of parts of pictures.
    """
    if len(rows) != batch:
        raise HostError(
            f"{where} works on {len(rows)} groups of {rows.shape[1]} tokens of {batch} pictures: the model "
            "reorders its tokens into windows; say how they lie, as "
            "tokens=lambda x, grid: (batch, rows * columns, channels) in raster order"
        )
    return rows


def first_tensor(given: Any) -> Tensor | None:
    """The first floating tensor of at least three dimensions among arguments or outputs."""
    items = given if isinstance(given, (tuple, list)) else [given]
    fitting = (one for one in items if isinstance(one, Tensor) and one.is_floating_point())
    return next((one for one in fitting if one.ndim >= 3), None)
