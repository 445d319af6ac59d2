"""The picture files that a json names: are they there, below the image root, of the annotated size; no torch.

Names are looked up in the listings of the folders they speak of, so that 118,000 of them take seconds.
Names of another system (backslashes, drive letters, absolute paths, `.JPG` for `.jpg`) are never followed:
the file they may mean below the root is offered instead.
"""

from __future__ import annotations

import os
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from svit.data.findings import EXAMPLES, Findings
from svit.data.reading import ImageError, read_image, stored_picture

DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass
class PictureFiles:
    """Checks files and collects what is found.

    Attributes:
        root: the image root.
        exif: as in `svit.data.reading.read_image`.
        errors, offers, notes: findings go there.
        renames: name in the json -> name of the file that may be meant.
    """

    root: Path
    exif: str
    errors: Findings
    offers: Findings
    notes: Findings
    renames: dict[str, str] = field(default_factory=dict)
    _folders: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    _real: dict[str, set[str]] = field(default_factory=dict)

    def check(
        self, images: Sequence[Mapping[str, Any]], *, decode: bool = False, strict: bool = False
    ) -> None:
        """One pass over well described images.

        Args:
            decode: read every picture to its end (slow).
            strict: what cannot be read is an error, not a note.
        """
        missing, turned = [], Counter()
        for image in images:
            name = image["file_name"]
            if self._is_below(name):
                self._check_picture(image, decode, strict, turned)
            elif not self._explained(name):
                missing.append(name)
        if missing:
            place = f"of {len(images)}: {', '.join(missing[:EXAMPLES])}; all in {_listing(missing)}"
            self.errors.add("missing files", place, len(missing))
        for orientation, count in sorted(turned.items()):
            self.notes.add("turned pictures", f"{count} with orientation {orientation}", count)

    def _is_below(self, name: str) -> bool:
        """Whether the name is that of a file below the root, links out of it excluded."""
        folder, base = os.path.split(name)
        if base in self._real_files(folder):
            return True
        path = self.root / name
        if _leaves(name) or not path.is_file():
            return False
        return Path(os.path.realpath(path)).is_relative_to(self._resolved)

    @cached_property
    def _resolved(self) -> Path:
        return self.root.resolve()

    def _real_files(self, folder: str) -> set[str]:
        """Files that are no links, in a folder below the root that is none either."""
        if folder not in self._real:
            self._real[folder] = set()
            if not _leaves(folder) and (self.root / folder).resolve().is_relative_to(
                self._resolved
            ):
                entries = _entries(self.root / folder)
                self._real[folder] = {e.name for e in entries if e.is_file(follow_symlinks=False)}
        return self._real[folder]

    def _explained(self, name: str) -> bool:
        """Whether more can be said of a name than that its file is missing; then it is noted."""
        found, outside = self._meant(name), _leaves(name) or (self.root / name).is_file()
        if found is not None:
            self.renames[name] = found
            self.offers.add("foreign file names", f"{name!r} may be {found!r}")
        elif outside:
            self.errors.add("names outside the image root", repr(name))
        return found is not None or outside

    def _meant(self, name: str) -> str | None:
        """The longest end of a path that, but for the case of its letters, is a file below the root."""
        plain = DRIVE.sub("", name.replace("\\", "/"))
        parts = [part for part in plain.split("/") if part not in ("", ".", "..")]
        for start in range(len(parts)):
            found = self._as_on_disk(parts[start:])
            if found and found != name and self._is_below(found):
                return found
        return None

    def _as_on_disk(self, parts: Sequence[str]) -> str | None:
        """The parts as folders and files are written below the root; None where that is not sure."""
        path = ""
        for part in parts:
            known = self._names(path).get(_key(part), [])
            exact = [name for name in known if name == part] or known
            if len(exact) != 1:
                return None
            path = f"{path}/{exact[0]}" if path else exact[0]
        return path

    def _names(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._folders:
            table: dict[str, list[str]] = {}
            for entry in _entries(self.root / folder):
                table.setdefault(_key(entry.name), []).append(entry.name)
            self._folders[folder] = table
        return self._folders[folder]

    def _check_picture(
        self, image: Mapping[str, Any], decode: bool, strict: bool, turned: Counter[int]
    ) -> None:
        path, expected = self.root / image["file_name"], (int(image["height"]), int(image["width"]))
        try:
            stored_hw, orientation = stored_picture(path)
            if not self._fits(path, stored_hw, orientation, expected, turned):
                return
            if decode:
                read_image(path, exif=self.exif, expected_hw=expected)
        except ImageError as error:
            if decode or strict:
                self.errors.add("wrong files", error)
            else:
                self.notes.add("unreadable pictures", error)

    def _fits(
        self,
        path: Path,
        stored_hw: tuple[int, int],
        orientation: int,
        expected: tuple[int, int],
        turned: Counter[int],
    ) -> bool:
        """Whether the header has the annotated size; tagged pictures are counted."""
        upright_hw = stored_hw[::-1] if orientation >= 5 else stored_hw
        sizes = {"on": [upright_hw], "off": [stored_hw], "auto": [upright_hw, stored_hw]}[self.exif]
        if expected not in sizes:
            height, width = expected
            found = f"{stored_hw[0]} x {stored_hw[1]}"
            if orientation >= 5:
                found += f", turned by its EXIF orientation {orientation}"
            self.errors.add(
                "pictures of another size",
                f"{path}: annotated as {height} x {width} (height x width), the file has {found}",
            )
            return False
        if orientation != 1:
            turned[orientation] += 1
        if self.exif == "auto" and orientation != 1 and upright_hw == stored_hw:
            self.errors.add(
                "undecided orientations",
                f"{path}: orientation {orientation}, {expected[0]} x {expected[1]}",
            )
        return True


def _key(name: str) -> str:
    """Alike for names that systems write alike: upper and lower case, composed and decomposed accents."""
    return unicodedata.normalize("NFC", name).casefold()


def _leaves(name: str) -> bool:
    """Whether a name is absolute, of another system, or climbs out of where it starts."""
    if os.path.isabs(name) or "\\" in name or DRIVE.match(name):
        return True
    return os.path.normpath(name).split(os.sep)[0] == ".."


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _listing(names: Sequence[str]) -> str:
    """A new text file with the names, a line each. Returns: its path."""
    with tempfile.NamedTemporaryFile(
        "w", prefix="svit-missing-files-", suffix=".txt", delete=False, encoding="utf-8"
    ) as file:
        file.writelines(f"{name}\n" for name in names)
    return file.name
