"""What of a folder has been rendered already, so that a run that was cut short can be continued.

Beside the pictures lies ``.unfinished.jsonl`` while they are rendered: a line that says which run
this is, then one for each picture whose file is complete. It is taken away in the end, when
``manifest.jsonl`` is written.
"""

from __future__ import annotations

import hashlib
import json
import math
import pathlib
from collections.abc import Iterable
from typing import IO, Any

from fiancee_jax import digests
from fiancee_jax.data.labels import LabelFile
from fiancee_jax.errors import UserError
from fiancee_jax.inference import Renderer
from fiancee_jax.report import Picture

NAME = ".unfinished.jsonl"


def mark_of(renderer: Renderer, options: dict[str, Any]) -> str:
    """Changes whenever pictures would: with the networks, their weights and the options."""
    words = json.dumps([repr(renderer.model), options], sort_keys=True)
    digest = hashlib.sha256(words.encode())
    digests.update(digest, renderer.variables)
    return digest.hexdigest()


class Ledger:
    """The pictures of one run that are complete, kept in its output folder.

    Attributes:
        done: they, by name.
    """

    def __init__(self, folder: pathlib.Path, mark: str, files: Iterable[LabelFile]) -> None:
        """Takes over what an unfinished run of the same mark has left of these files.

        A picture is rendered again if it is gone, or if its label map is another by now.
        """
        self._path, self._folder = folder / NAME, folder
        self._stamps = {file.name: _stamp(file) for file in files}
        self.done = self._left(mark)
        self._file = self._start(mark)

    def _left(self, mark: str) -> dict[str, Picture]:
        """Lines of an unfinished run; one that a kill cut short is passed over."""
        try:
            first, *lines = self._path.read_text().splitlines()
            if json.loads(first) != {"mark": mark}:
                return {}
        except (OSError, ValueError):
            return {}
        found = (self._read(line) for line in lines)
        return {picture.name: picture for picture in found if picture is not None}

    def _read(self, line: str) -> Picture | None:
        try:
            record = json.loads(line)
            picture = Picture(
                str(record["name"]),
                int(record["exit"]),
                tuple(math.nan if p is None else float(p) for p in record["predicted"]),
                float(record["gmacs"]),
                float(record["full_gmacs"]),
            )
            stamp = record["stamp"]
        except (ValueError, KeyError, TypeError):
            return None
        same = stamp is not None and stamp == self._stamps.get(picture.name)
        return picture if same and (self._folder / f"{picture.name}.png").is_file() else None

    def _start(self, mark: str) -> IO[str]:
        """A new file with what is done, in place of the old one."""
        try:
            temporary = self._path.with_suffix(".tmp")
            file = temporary.open("w")
            file.write(json.dumps({"mark": mark}) + "\n")
            file.writelines(self._line(picture) for picture in self.done.values())
            file.flush()
            temporary.replace(self._path)
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror or error}.") from None
        return file

    def _line(self, picture: Picture) -> str:
        record = {
            "name": picture.name,
            "exit": picture.exit,
            "predicted": [None if math.isnan(p) else p for p in picture.predicted],
            "gmacs": picture.gmacs,
            "full_gmacs": picture.full_gmacs,
            "stamp": self._stamps.get(picture.name),
        }
        return json.dumps(record) + "\n"

    def add(self, pictures: Iterable[Picture]) -> None:
        """Notes pictures whose files are complete."""
        pictures = list(pictures)
        self.done |= {picture.name: picture for picture in pictures}
        try:
            self._file.writelines(map(self._line, pictures))
            self._file.flush()
        except OSError as error:
            raise UserError(f"cannot write {self._path}: {error.strerror or error}.") from None

    def close(self) -> None:
        """Closes the file and leaves it: the run may be continued."""
        self._file.close()

    def finish(self) -> None:
        """Takes the file away: the run is complete."""
        self.close()
        self._path.unlink(missing_ok=True)


def _stamp(file: LabelFile) -> list[int] | None:
    """Size and time of change (ns) of a label map; None if it is gone."""
    try:
        found = file.path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
