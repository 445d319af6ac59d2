"""A run folder of lists that others wrote (`svit.exchange.lists`): figures and the app read it as any other.

What the lists do not tell is not made up: without a method it is "unknown", without targets every layer
counts as one that may prune, and there are no operations to count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from svit.core.slices import frame_of, marked, marked_frame, slices_of
from svit.core.types import ImageId, Target
from svit.data.reading import ImageError, read_image, stored_picture
from svit.data.segments import target_of
from svit.data.validate import CocoError, checked
from svit.exchange.lists import Lists, ListsError, names_in, numbered
from svit.runs.run import RunWriter
from svit.system.files import file_hash


class Truth:
    """Ground truth of pictures by the names of their files.

    Args:
        json: COCO instances.

    Attributes:
        class_names: of the labels.
        sha256: of the json.

    Raises:
        CocoError: the json is unreadable or wrong.
    """

    def __init__(self, json: Path) -> None:
        data, self.report = checked(json)
        self.sha256 = file_hash(json)
        ordered = sorted(data["categories"], key=lambda one: one["id"])
        self.class_names = [str(one["name"]) for one in ordered]
        self._labels = {one["id"]: label for label, one in enumerate(ordered)}
        self._images = {image["file_name"]: image for image in data["images"]}
        self._entries = Counter(image["file_name"] for image in data["images"])
        fields = slices_of(data["images"])
        texts = zip(*fields.values(), strict=True) if fields else ((),) * len(data["images"])
        self._slices = {
            image["file_name"]: dict(zip(fields, row)) for image, row in zip(data["images"], texts)
        }
        self._objects: dict[ImageId, list[Mapping[str, Any]]] = {}
        for one in data["annotations"]:
            self._objects.setdefault(one["image_id"], []).append(one)

    def lacking(self, file_names: Sequence[str]) -> list[str]:
        """Names of pictures that it does not list.

        Raises:
            CocoError: these are all, or a picture has several entries.
        """
        lacking = [name for name in file_names if name not in self._images]
        if len(lacking) == len(file_names):
            raise CocoError(
                f"{self.report.source} lists none of the pictures: there {next(iter(self._images))!r}, in "
                f"the lists {file_names[0]!r}; write `file_name` in both as below one --image-root"
            )
        for name in file_names:
            if self._entries[name] > 1:
                raise CocoError(
                    f"{self.report.source} has {self._entries[name]} entries of {name!r}, each with objects "
                    "of its own: put them under one id"
                )
        return lacking

    def image_hw(self, file_name: str) -> tuple[int, int] | None:
        """Height and width of a picture as annotated; None where it is not listed."""
        image = self._images.get(file_name)
        return None if image is None else (int(image["height"]), int(image["width"]))

    def of(self, file_name: str) -> Target | None:
        """The objects of a picture in source pixels; None where it is not listed."""
        image = self._images.get(file_name)
        if image is None:
            return None
        objects = self._objects.get(image["id"], [])
        return target_of(objects, self._labels, (int(image["height"]), int(image["width"])))

    def marks(self, file_name: str) -> dict[str, float]:
        """Extra numbers of a run: the groups a picture is in, and which frame it is (`svit.core.slices`)."""
        frame = frame_of(self._images.get(file_name, {}))
        return marked(self._slices.get(file_name, {})) | marked_frame(frame)


def import_lists(
    lists: Lists,
    image_root: Path,
    out: Path,
    truth: Truth | None = None,
    picture_side: int = 640,
    exif: str = "auto",
) -> int:
    """Writes a run, or goes on with it. Returns: how many pictures could not be read; the run's error table
    names them.

    Args:
        image_root: folder of the pictures.
        picture_side: longer side of the stored pictures in pixels; 0 stores none.
        exif: as in `svit.data.reading.read_image`: pictures have to be turned as the model was given them.

    Raises:
        ListsError: lists that do not fit their grid, or layers of which images have different numbers.
        CocoError: as `Truth.lacking`.
        RunError: the folder holds another run or cannot be written.
    """
    from tqdm import tqdm  # only writing shows a bar

    failed, named = 0, list(numbered(lists))
    if truth is not None:
        truth.lacking(names_in(lists))
    source = provenance(lists, truth) | ({} if exif == "auto" else {"exif": exif})
    with RunWriter(out, source, picture_side=picture_side) as writer:
        done = writer.done  # by a call before this one
        for number, image_id in tqdm(named, unit="image", disable=None):
            if image_id in done:
                continue
            name = lists.file_name(number)
            try:
                wanted = None if truth is None else truth.image_hw(name)
                image = read_image(image_root / name, exif=exif, expected_hw=wanted)
            except ImageError as error:
                writer.add_error(image_id, str(error), name)
                failed += 1
                continue
            trace = lists.trace(number, image_id, image.shape[:2])
            target = None if truth is None else truth.of(name)
            extra = {} if truth is None else truth.marks(name)
            try:
                writer.add(trace, None, target, image, name, extra)
            except ValueError as error:
                raise ListsError(f"{lists.place(number)}: {error}") from error
    return failed


def tagged(lists: Lists, image_root: Path) -> list[str]:
    """Names of the pictures that an EXIF orientation says how to turn; those that cannot be read left out."""
    found = []
    for name in names_in(lists):
        with suppress(ImageError):
            if stored_picture(image_root / name)[1] != 1:
                found.append(name)
    return found


def provenance(lists: Lists, truth: Truth | None) -> dict[str, Any]:
    """What a run says of itself that was imported: no configuration, no weights."""
    targets: Sequence[float] = lists.facts.get("targets") or ()
    annotated = {} if truth is None else {"annotations_sha256": truth.sha256}
    return {
        "method": str(lists.facts.get("method") or "unknown"),
        "targets": [float(target) for target in targets],
        "class_names": [] if truth is None else truth.class_names,
        "imported_from": lists.source.name,
        "lists_sha256": lists.sha256,
        **annotated,
    }
