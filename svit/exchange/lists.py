"""Which tokens each layer of any model kept or merged, as lists that others write: json or npz.

`docs/exchange.md` documents both forms. Nothing is guessed: what a list cannot mean is refused with the image
and layer it stands in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from svit.core.ranges import RATIO
from svit.core.types import ImageId, TokenGrid, TokenTrace

KNOWN = (
    "file_name",
    "id",
    "grid",
    "patch",
    "resized",
    "first",
    "relative",
    "keep",
    "group",
    "scores",
)
FACTS = ("method", "targets")
_EACH = ("file_name", "id", "keep", "group", "scores")  # arrays of an npz with a row an image


class ListsError(ValueError):
    """A file of lists cannot be meant; the message names image, layer, what was found and the fix."""


@dataclass(frozen=True)
class Lists:
    """What a file holds.

    Attributes:
        source: the file.
        sha256: of its bytes.
        facts: those of `FACTS` that it tells.
        images: an entry an image, with what stands at the top of the file for all.
    """

    source: Path
    sha256: str
    facts: Mapping[str, Any]
    images: Sequence[Mapping[str, Any]] = field(repr=False)

    def place(self, number: int) -> str:
        """How a message names an image."""
        return f"{self.source}, image {number + 1} ({self.images[number].get('file_name')!r})"

    def file_name(self, number: int) -> str:
        """Of an image's picture, below the image root.

        Raises:
            ListsError: there is none.
        """
        name = self.images[number].get("file_name")
        if not isinstance(name, str) or not name:
            raise ListsError(f"{self.place(number)}: expected `file_name`, the name of the picture")
        return name

    def trace(self, number: int, image_id: ImageId, image_hw: tuple[int, int]) -> TokenTrace:
        """The tokens of an image.

        Args:
            image_hw: size of its picture in pixels.

        Raises:
            ListsError: its lists do not fit its grid, or each other.
        """
        try:
            return _trace(self.images[number], image_id, image_hw)
        except (ValueError, TypeError, OverflowError) as error:
            raise ListsError(f"{self.place(number)}: {error}") from error


def read_lists(source: Path) -> Lists:
    """A json or npz of lists.

    Raises:
        ListsError: it cannot be read, or holds entries that nothing is known of.
    """
    try:
        content = source.read_bytes()
        whole = _of_arrays(source) if content[:2] == b"PK" else json.loads(content)
    except OSError as error:
        raise ListsError(f"{source}: {error.strerror}; check the path") from error
    except (ValueError, RecursionError) as error:
        raise ListsError(f"{source}: neither json nor npz ({error})") from error
    if not isinstance(whole, dict) or not isinstance(whole.get("images"), list):
        raise ListsError(f"{source}: expected an object with a list `images`; see docs/exchange.md")
    common = {name: value for name, value in whole.items() if name not in ("images", *FACTS)}
    images = [
        {**common, **one} if isinstance(one, dict) else {"file_name": one}
        for one in whole["images"]
    ]
    unknown = {name for one in images for name in one} - {*KNOWN}
    if unknown:
        raise ListsError(
            f"{source}: does not know {', '.join(sorted(map(repr, unknown)))}; entries are "
            f"{', '.join((*FACTS, 'images', *KNOWN))}"
        )
    facts = {name: whole[name] for name in FACTS if name in whole}
    _check_targets(source, facts.get("targets"), images)
    return Lists(source, hashlib.sha256(content).hexdigest(), facts, images)


def _check_targets(source: Path, targets: Any, images: Sequence[Mapping[str, Any]]) -> None:
    """Raises ListsError unless there are none, or a share for each layer."""
    if targets is None or (isinstance(targets, list | tuple) and not targets):
        return
    good = isinstance(targets, list | tuple) and all(
        type(one) in (int, float) and one in RATIO for one in targets
    )
    if not good:
        raise ListsError(
            f"{source}: expected `targets`, the share of tokens that each layer aims to keep, above 0 and at "
            f"most 1, found {targets!r:.60}"
        )
    for number, one in enumerate(images, 1):
        given = next((one[name] for name in ("keep", "group") if one.get(name) is not None), None)
        if isinstance(given, list | tuple | np.ndarray) and len(given) != len(targets):
            raise ListsError(
                f"{source}: {len(targets)} `targets`, and image {number} has {len(given)} layers: give one a "
                "layer, 1 for those that keep all"
            )


def _of_arrays(source: Path) -> dict[str, Any]:
    """The arrays of an npz as the entries of a json: `_EACH` a row an image, the others for all."""
    with np.load(source, allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    count = len(found.get("file_name", ()))
    wrong = [name for name in _EACH if name in found and len(found[name]) != count]
    if not count or wrong:
        raise ValueError(
            f"expected an array `file_name` and as many rows in {', '.join(wrong) or 'it'}"
        )
    rows = {
        name: list(found.pop(name))
        if name in ("keep", "group", "scores")
        else found.pop(name).tolist()
        for name in _EACH
        if name in found
    }
    images = [dict(zip(rows, row)) for row in zip(*rows.values())]
    return {**{name: value.tolist() for name, value in found.items()}, "images": images}


def _trace(entry: Mapping[str, Any], image_id: ImageId, image_hw: tuple[int, int]) -> TokenTrace:
    grid = _grid(entry, image_hw)
    if entry.get("keep") is None and entry.get("group") is None:
        raise ValueError("expected `keep` or `group`, an entry a layer, found neither")
    group = _layers(entry, "group", lambda one: _group(one, grid.tokens))
    keep = _kept(entry, grid.tokens)
    own = np.arange(grid.tokens)
    if group is None:
        carriers = None
    else:
        used = group == own
        keep = used if keep is None else keep
        if keep.shape != group.shape:
            raise ValueError(f"`keep` has {len(keep)} layers and `group` {len(group)}")
        carriers = np.where(group < 0, own, group)
        _check_dropped(group, carriers)
        carriers = carriers.reshape(-1, *grid.grid_hw)
    scores = _layers(entry, "scores", lambda one: _scores(one, grid.tokens))
    shape = (len(keep), *grid.grid_hw)
    return TokenTrace(
        image_id,
        grid,
        keep.reshape(shape),
        None if scores is None else scores.reshape(-1, *grid.grid_hw),
        group=carriers,
    )


def _grid(entry: Mapping[str, Any], image_hw: tuple[int, int]) -> TokenGrid:
    grid_hw, patch = _pair(entry, "grid"), _whole(entry, "patch", 16)
    whole = (grid_hw[0] * patch, grid_hw[1] * patch)
    return TokenGrid(
        image_hw, _pair(entry, "resized") if "resized" in entry else whole, grid_hw, patch
    )


def _pair(entry: Mapping[str, Any], name: str) -> tuple[int, int]:
    value = entry.get(name)
    if (
        not isinstance(value, list | tuple)
        or len(value) != 2
        or not all(type(v) is int for v in value)
    ):
        raise ValueError(f"expected `{name}` as two whole numbers, height first, found {value!r}")
    return value[0], value[1]


def _whole(entry: Mapping[str, Any], name: str, otherwise: int) -> int:
    value = entry.get(name, otherwise)
    if type(value) is not int:
        raise ValueError(f"expected `{name}` as a whole number, found {value!r}")
    return value


def _layers(entry: Mapping[str, Any], name: str, read: Any) -> np.ndarray | None:
    """What `read` makes of each layer's entry, stacked; None without the entry.

    Raises:
        ValueError: it names the layer.
    """
    given = entry.get(name)
    if given is None:
        return None
    if not isinstance(given, list | tuple | np.ndarray) or not len(given):
        raise ValueError(f"expected `{name}` with an entry a layer, found {given!r}")
    rows = []
    for number, one in enumerate(given, 1):
        try:
            rows.append(read(one))
        except (ValueError, TypeError) as error:
            raise ValueError(f"`{name}` of layer {number}: {error}") from error
    return np.stack(rows)


def _kept(entry: Mapping[str, Any], tokens: int) -> np.ndarray | None:
    """bool (layers, tokens). In a relative list an index counts the tokens that the layer before kept."""
    relative, first = entry.get("relative", False), _whole(entry, "first", 0)
    if type(relative) is not bool:
        raise ValueError(f"expected `relative` as true or false, found {relative!r}")
    if relative and first:
        raise ValueError("`relative` indices have no tokens before them: leave `first` out")
    before = np.arange(tokens)

    def read(one: Any) -> np.ndarray:
        nonlocal before
        if isinstance(one, np.ndarray) and one.dtype == bool:
            if one.shape != (tokens,):
                raise ValueError(f"expected {tokens} truth values, found {one.shape}")
            return one
        mask = np.zeros(tokens, bool)
        chosen = before if relative else np.arange(tokens)
        if one is not None:
            chosen = chosen[_indices(one, len(chosen), first)]
        mask[chosen] = True
        before = np.flatnonzero(mask)
        return mask

    return _layers(entry, "keep", read)


def _indices(given: Any, count: int, first: int) -> np.ndarray:
    """Indices of image tokens from 0; with `first`, those of other tokens (class, text) are left out."""
    values = np.asarray(given)
    if values.ndim != 1 or (len(values) and values.dtype.kind not in "iu"):
        raise ValueError(
            f"expected a list of whole numbers, or null for all tokens, found {given!r:.60}"
        )
    indices = values.astype(np.int64) - first
    inside = (indices >= 0) & (indices < count)
    if not first and not inside.all():
        raise ValueError(
            f"index {values[~inside][0]} is none of {count} tokens; where class or text tokens are "
            "counted, say at which index those of the image begin: `first`"
        )
    indices = indices[inside]
    if len(np.unique(indices)) < len(indices):
        raise ValueError("an index stands there twice")
    return indices


def _group(given: Any, tokens: int) -> np.ndarray:
    """int64 (tokens,): the carrier of each token, -1 for one that is dropped."""
    if given is None:
        return np.arange(tokens)
    values = np.asarray(given)
    if values.shape != (tokens,) or values.dtype.kind not in "iu":
        raise ValueError(f"expected {tokens} whole numbers, found {values.dtype} {values.shape}")
    if values.min() < -1 or values.max() >= tokens:
        raise ValueError(f"expected carriers from 0 to {tokens - 1}, or -1 for a dropped token")
    return values.astype(np.int64)


def _check_dropped(group: np.ndarray, carriers: np.ndarray) -> None:
    """Raises ValueError where a token that is dropped (-1) carries another."""
    lost = (group >= 0) & (np.take_along_axis(group, carriers, axis=1) < 0)
    for layer, token in np.argwhere(lost)[:1].tolist():
        raise ValueError(
            f"`group` of layer {layer + 1}: expected carriers that are there, found token {token} carried by "
            f"{group[layer, token]}, which is dropped (-1); write -1 for both, or its own index for a carrier"
        )


def _scores(given: Any, tokens: int) -> np.ndarray:
    if given is None:
        return np.full(tokens, np.nan, np.float16)
    with np.errstate(over="ignore"):  # refused below
        values = np.asarray(given, np.float16)
    if values.shape != (tokens,):
        raise ValueError(f"expected {tokens} numbers, found {values.shape}")
    if (lost := np.isinf(values) & np.isfinite(np.asarray(given, float))).any():
        raise ValueError(
            f"a score is beyond 65504, which 16 bits hold at most, found "
            f"{np.asarray(given, float)[lost][0]:g}: scale them"
        )
    return values


def names_in(lists: Lists) -> list[str]:
    """Of all pictures, in order. Raises as `Lists.file_name`."""
    return [lists.file_name(number) for number in range(len(lists.images))]


def numbered(lists: Lists) -> Iterator[tuple[int, ImageId]]:
    """Number and id of each image: its `id`, else the name of its file.

    Raises:
        ListsError: two have the same id.
    """
    seen: set[ImageId] = set()
    for number, entry in enumerate(lists.images):
        image_id = entry.get("id", lists.file_name(number))
        if type(image_id) not in (int, str) or image_id in seen:
            raise ListsError(
                f"{lists.place(number)}: expected an id of its own, a whole number or text, found "
                f"{image_id!r}"
            )
        seen.add(image_id)
        yield number, image_id
