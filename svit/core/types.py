"""The currency of the workbench: immutable, validated numpy records that every room exchanges.

Nothing here knows torch or a detection framework. Past the detector border only these types travel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np

from svit.core.rle import CodedMasks

ImageId = int | str


@dataclass(frozen=True)
class FrameId:
    """Which picture of a video an image is.

    Attributes:
        video: as the data set names it.
        number: its place in the video's order, from 0; numbers may be left out.
    """

    video: ImageId
    number: int


def _expect(condition: bool, expected: str, found: object) -> None:
    if not condition:
        raise ValueError(f"expected {expected}, found {found}")


def group_problem(group: np.ndarray, keep: np.ndarray) -> str | None:
    """What keeps maps of carriers, int (layers, tokens), from being such beside masks (layers, tokens)."""
    tokens = group.shape[1]
    if group.size and not 0 <= group.min() <= group.max() < tokens:
        return f"a carrier outside of {tokens} tokens"
    if not np.array_equal(np.take_along_axis(group, group, axis=1), group):
        return "a carrier that another token carries"
    if (keep & (group != np.arange(tokens))).any():
        return "a used token that another one carries"
    return None


def _frozen(array: np.ndarray, dtype: type | np.dtype) -> np.ndarray:
    """A read-only array of the dtype; the caller's own array stays writable."""
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


def to_xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    """Boxes as COCO writes them. Returns: float64 (n, 4), left, top, width, height."""
    boxes = boxes_xyxy.astype(float)
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def to_xyxy(boxes_xywh: np.ndarray) -> np.ndarray:
    """COCO's boxes as corners. Returns: (n, 4) of the same dtype, left, top, right, bottom."""
    boxes = boxes_xywh.copy()
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def clip_boxes(boxes_xyxy: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Boxes (n, 4), left, top, right, bottom, cut at the border of a picture; float32 stays float32."""
    height, width = image_hw
    return np.clip(boxes_xyxy, 0, np.float32([width, height, width, height]))


@dataclass(frozen=True)
class TokenGrid:
    """Where the tokens of one image lie: source pixels -> resized pixels -> padded token grid.

    Attributes:
        image_hw: height and width of the source image in pixels, after any EXIF rotation.
        resized_hw: height and width after resizing, before padding.
        grid_hw: token rows and columns of the padded image, as the backbone saw it.
        patch: side of a token in resized pixels.
    """

    image_hw: tuple[int, int]
    resized_hw: tuple[int, int]
    grid_hw: tuple[int, int]
    patch: int = 16

    def __post_init__(self) -> None:
        for name in ("image_hw", "resized_hw", "grid_hw"):
            pair = tuple(int(v) for v in getattr(self, name))
            _expect(len(pair) == 2 and min(pair) > 0, f"{name} as two positive numbers", pair)
            object.__setattr__(self, name, pair)
        _expect(self.patch > 0, "a positive patch", self.patch)
        fits = all(v <= g for v, g in zip(self.valid_hw, self.grid_hw))
        _expect(fits, f"a grid {self.grid_hw} that covers {self.valid_hw} tokens", self.resized_hw)

    @property
    def valid_hw(self) -> tuple[int, int]:
        """Rows and columns of tokens that show at least one image pixel (the rest is padding)."""
        return tuple(math.ceil(side / self.patch) for side in self.resized_hw)  # type: ignore[return-value]

    @property
    def tokens(self) -> int:
        """Number of tokens with padding: N of the paper."""
        return self.grid_hw[0] * self.grid_hw[1]

    @property
    def scale_yx(self) -> tuple[float, float]:
        """Resized pixels per source pixel, vertically and horizontally."""
        return (
            self.resized_hw[0] / self.image_hw[0],
            self.resized_hw[1] / self.image_hw[1],
        )

    def valid_mask(self) -> np.ndarray:
        """Tokens that show image pixels. Returns: bool, shape `grid_hw`."""
        mask = np.zeros(self.grid_hw, dtype=bool)
        mask[: self.valid_hw[0], : self.valid_hw[1]] = True
        return mask

    def token_box(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Box (x0, y0, x1, y1) of a token in source pixels, cut at the image border."""
        _expect(
            0 <= row < self.grid_hw[0] and 0 <= column < self.grid_hw[1],
            f"a token inside the grid {self.grid_hw}",
            (row, column),
        )
        scale_y, scale_x = self.scale_yx
        height, width = self.image_hw
        left, top = column * self.patch / scale_x, row * self.patch / scale_y
        right, bottom = (column + 1) * self.patch / scale_x, (row + 1) * self.patch / scale_y
        return min(left, width), min(top, height), min(right, width), min(bottom, height)

    def token_at(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the token that shows source pixel (x, y).

        Raises:
            ValueError: the pixel lies outside the image.
        """
        height, width = self.image_hw
        _expect(0 <= x < width and 0 <= y < height, f"a pixel inside {width}x{height}", (x, y))
        scale_y, scale_x = self.scale_yx
        row, column = int(y * scale_y / self.patch), int(x * scale_x / self.patch)
        return min(row, self.valid_hw[0] - 1), min(column, self.valid_hw[1] - 1)


@dataclass(frozen=True)
class TokenTrace:
    """Which tokens every layer of one image used, and which of them carried others.

    "Used at layer l" means: took part as a query in that block. A fused remainder is not used.
    A token that was merged into a used one is "carried": the block saw it as a part of the other. The rest
    is pruned.

    Attributes:
        image_id: as the data set names it.
        grid: the geometry of the tokens.
        keep: bool (layers, rows, columns); layers are zero-based blocks, raster order.
        scores: float16 (layers, rows, columns) log-odds of keeping as the gate saw them, NaN where a
            layer has no gate; None when not recorded.
        measures: name -> float32 (layers, rows, columns), such as `update`: further numbers of each token
            (docs/run-format.md), NaN where the token was not there.
        group: int32 (layers, rows, columns), the raster index of the token that carries each one, its own
            where none does; None where no token is merged.
    """

    image_id: ImageId
    grid: TokenGrid
    keep: np.ndarray
    scores: np.ndarray | None = None
    measures: Mapping[str, np.ndarray] = field(default_factory=dict)
    group: np.ndarray | None = None

    def __post_init__(self) -> None:
        keep = np.asarray(self.keep)
        _expect(keep.dtype == bool, "keep of dtype bool", keep.dtype)
        shape = (keep.shape[0] if keep.ndim else 0, *self.grid.grid_hw)
        _expect(keep.ndim == 3 and keep.shape == shape, f"keep of shape {shape}", keep.shape)
        object.__setattr__(self, "keep", _frozen(keep, bool))
        if self.scores is not None:
            scores = np.asarray(self.scores)
            _expect(scores.shape == shape, f"scores of shape {shape}", scores.shape)
            object.__setattr__(self, "scores", _frozen(scores, np.float16))
        measures = {}
        for name, values in self.measures.items():
            values = np.asarray(values)
            _expect(values.shape == shape, f"{name} of shape {shape}", values.shape)
            measures[name] = _frozen(values, np.float32)
        object.__setattr__(self, "measures", measures)
        if self.group is not None:
            object.__setattr__(self, "group", self._checked(np.asarray(self.group)))

    def _checked(self, group: np.ndarray) -> np.ndarray | None:
        """The groups as they are kept; None where every token has its own."""
        shape = self.keep.shape
        _expect(group.shape == shape, f"groups of shape {shape}", group.shape)
        flat = group.reshape(shape[0], -1)
        problem = group_problem(flat, self.keep.reshape(shape[0], -1))
        _expect(problem is None, "groups whose carriers carry themselves", problem)
        own = (flat == np.arange(flat.shape[1])).all()
        return None if own else _frozen(group, np.int32)

    @property
    def layers(self) -> int:
        """Number of recorded blocks."""
        return self.keep.shape[0]

    @property
    def carried(self) -> np.ndarray:
        """Tokens that a used one carries. Returns: bool (layers, rows, columns)."""
        if self.group is None:
            return np.zeros_like(self.keep)
        flat = self.keep.reshape(self.layers, -1)
        seen = np.take_along_axis(flat, self.group.reshape(self.layers, -1), axis=1)
        return (seen & ~flat).reshape(self.keep.shape)

    @property
    def usage(self) -> np.ndarray:
        """Number of layers that used each token (paper Fig. 1/4). Returns: int64 (rows, columns)."""
        return self.keep.sum(axis=0)


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image, in source pixels.

    Attributes:
        boxes_xyxy: float32 (n, 4).
        scores: float32 (n,), descending.
        labels: int64 (n,), contiguous class indices from 0 (background has none).
        coded: masks of the source image, or None for boxes only; given as bool (n, height, width) they are
            encoded, since as pixels those of one large field are gigabytes.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    coded: CodedMasks | None = None

    def __post_init__(self) -> None:
        count = len(self.scores)
        boxes = np.asarray(self.boxes_xyxy).reshape(-1, 4)
        _expect(len(boxes) == count, f"{count} boxes (one a score)", len(boxes))
        _expect(len(self.labels) == count, f"{count} labels (one a score)", len(self.labels))
        object.__setattr__(self, "boxes_xyxy", _frozen(boxes, np.float32))
        object.__setattr__(self, "scores", _frozen(self.scores, np.float32))
        object.__setattr__(self, "labels", _frozen(self.labels, np.int64))
        if self.coded is not None and not isinstance(self.coded, CodedMasks):
            masks = np.asarray(self.coded)
            good = masks.ndim == 3 and masks.dtype == bool
            _expect(good, f"bool masks ({count}, height, width)", (masks.dtype, masks.shape))
            object.__setattr__(self, "coded", CodedMasks.of(masks))
        if self.coded is not None:
            masked = len(self.coded.codes)
            _expect(masked == count, f"{count} masks (one a score)", masked)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index: np.ndarray | slice) -> Detections:
        """The detections an index array, boolean mask or slice picks; every field is filtered."""
        coded = None if self.coded is None else self.coded[index]
        return Detections(self.boxes_xyxy[index], self.scores[index], self.labels[index], coded)

    @property
    def masks(self) -> np.ndarray | None:
        """bool (n, height, width) of the source image, decoded at every call; None for boxes only."""
        return None if self.coded is None else self.coded.decoded()


@dataclass(frozen=True)
class Target:
    """Ground truth of one image in the frame its owner states (source or resized pixels).

    Attributes:
        boxes_xyxy: float32 (n, 4).
        labels: int64 (n,), contiguous class indices from 0.
        masks: bool (n, height, width).
        crowd: bool (n,); COCO's `iscrowd`.
        areas: float32 (n,) object areas in source pixels as annotated; zeros where unknown.
        has_mask: bool (n,); where False only a box was annotated, and the mask is that of its rectangle.
    """

    boxes_xyxy: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    crowd: np.ndarray = field(default=None)  # type: ignore[assignment]
    areas: np.ndarray = field(default=None)  # type: ignore[assignment]
    has_mask: np.ndarray = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        count = len(self.labels)
        boxes = np.asarray(self.boxes_xyxy).reshape(-1, 4)
        masks = np.asarray(self.masks)
        _expect(len(boxes) == count, f"{count} boxes (one a label)", len(boxes))
        good = masks.ndim == 3 and len(masks) == count
        _expect(good, f"masks ({count}, height, width)", masks.shape)
        crowd = np.zeros(count, bool) if self.crowd is None else self.crowd
        areas = np.zeros(count, np.float32) if self.areas is None else self.areas
        has_mask = np.ones(count, bool) if self.has_mask is None else self.has_mask
        _expect(len(crowd) == count, f"{count} crowd flags", len(crowd))
        _expect(len(areas) == count, f"{count} areas", len(areas))
        object.__setattr__(self, "boxes_xyxy", _frozen(boxes, np.float32))
        object.__setattr__(self, "labels", _frozen(self.labels, np.int64))
        object.__setattr__(self, "masks", _frozen(masks, bool))
        object.__setattr__(self, "crowd", _frozen(crowd, bool))
        _expect(len(has_mask) == count, f"{count} mask flags", len(has_mask))
        object.__setattr__(self, "areas", _frozen(areas, np.float32))
        object.__setattr__(self, "has_mask", _frozen(has_mask, bool))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: np.ndarray | slice) -> Target:
        """The objects an index array, boolean mask or slice picks; every field is filtered."""
        return Target(*(getattr(self, one.name)[index] for one in fields(self)))


@dataclass(frozen=True)
class CodedTarget:
    """Ground truth as `Target`, in source pixels, with masks as they are stored.

    Attributes:
        boxes_xyxy: float32 (n, 4).
        labels: int64 (n,), contiguous class indices from 0.
        masks: one an object.
        crowd: bool (n,).
        areas: float32 (n,) as annotated, in source pixels.
        has_mask: bool (n,), as of `Target`.
    """

    boxes_xyxy: np.ndarray
    labels: np.ndarray
    masks: CodedMasks
    crowd: np.ndarray
    areas: np.ndarray
    has_mask: np.ndarray = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.has_mask is None:
            object.__setattr__(self, "has_mask", np.ones(len(self.labels), bool))

    @classmethod
    def of(cls, target: Target) -> CodedTarget:
        """The same ground truth, its masks encoded."""
        masks = CodedMasks.of(target.masks)
        rest = (target.crowd, target.areas, target.has_mask)
        return cls(target.boxes_xyxy, target.labels, masks, *rest)

    def __len__(self) -> int:
        return len(self.labels)

    def decoded(self) -> Target:
        """The same ground truth, its masks as bool (n, height, width)."""
        masks = self.masks.decoded()
        rest = (self.crowd, self.areas, self.has_mask)
        return Target(self.boxes_xyxy, self.labels, masks, *rest)
