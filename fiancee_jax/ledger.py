"""What of a folder has been rendered already, so that a run that was cut short can be continued.

Beside the pictures lies ``.unfinished.jsonl`` while they are rendered: a line that says which run
this is, then one for each picture whose file is complete. Each host has such a file of its own and
knows those of the others, so a run may be continued by any number of hosts. They are taken away in
the end, when ``manifest.jsonl`` is written.
"""

from __future__ import annotations

import hashlib
import json
import math
import pathlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

import jax

from fiancee_jax import digests, hosts
from fiancee_jax.data.labels import LabelFile
from fiancee_jax.errors import UserError
from fiancee_jax.files import sweep
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
        failed: label maps that could not be rendered: name -> reason.
    """

    def __init__(self, folder: pathlib.Path, mark: str, files: Iterable[LabelFile]) -> None:
        """Takes over what an unfinished run of the same mark has left of these files.

        A picture is rendered again if it is gone, or if its label map is another by now. All hosts
        come here at once; folders are swept of what was half written.
        """
        self._folder, self._mark = folder, mark
        self._path = folder / (NAME if hosts.is_first() else _other(jax.process_index()))
        self._stamps = {file.name: _stamp(file) for file in files}
        self.done = {p.name: p for p, stamp in self._left() if self._still(p, stamp)}
        self.failed: dict[str, str] = {}
        if hosts.is_first():
            sweep(folder)
            sweep(folder / "_labels")
        hosts.meet("what is done has been read")
        self._file = self._start()
        hosts.meet("what is done has been written")
        if hosts.is_first():
            self._drop(set(self._paths()) - set(map(_other, range(jax.process_count()))))

    # --- reading ------------------------------------------------------------------------------
    def _paths(self) -> list[str]:
        """Names of the files of all hosts."""
        return sorted(path.name for path in self._folder.glob(_other("*")))

    def _records(self) -> Iterator[dict[str, Any]]:
        """Lines of a run of this mark, on any host; one that a kill cut short is passed over."""
        for name in (NAME, *self._paths()):
            try:
                first, *lines = (self._folder / name).read_text().splitlines()
                if json.loads(first) != {"mark": self._mark}:
                    continue
            except (OSError, ValueError, RecursionError):
                continue
            yield from filter(None, map(_record, lines))

    def _left(self) -> Iterator[tuple[Picture, Any]]:
        """Pictures, and the stamps of their label maps when they were rendered."""
        for record in self._records():
            picture = _picture(record)
            if picture is not None:
                yield picture, record.get("stamp")

    def _still(self, picture: Picture, stamp: Any) -> bool:
        """Whether a picture is there, and its label map is the same."""
        same = stamp is not None and stamp == self._stamps.get(picture.name)
        return same and (self._folder / f"{picture.name}.png").is_file()

    def gather(self) -> None:
        """Waits for all hosts, and takes over what they have done and what failed."""
        hosts.meet("all pictures have been written")
        if jax.process_count() > 1:
            self.done = {picture.name: picture for picture, _ in self._left()}
            records = (record for record in self._records() if "error" in record)
            self.failed = {str(record["name"]): str(record["error"]) for record in records}
        hosts.meet("all ledgers have been read")

    # --- writing ------------------------------------------------------------------------------
    def _start(self) -> IO[str]:
        """A new file with what is done, in place of the old one."""
        try:
            temporary = self._path.with_suffix(".tmp")
            file = temporary.open("w")
            file.write(json.dumps({"mark": self._mark}) + "\n")
            file.writelines(self._line(picture) for picture in self.done.values())
            file.flush()
            temporary.replace(self._path)
        except OSError as error:
            raise self._unwritable(error) from None
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
        self._write(map(self._line, pictures))

    def add_failed(self, failed: dict[str, str]) -> None:
        """Notes label maps that could not be rendered; a run that continues tries them again."""
        self.failed |= failed
        lines = [json.dumps({"name": name, "error": why}) + "\n" for name, why in failed.items()]
        self._write(lines)

    def _write(self, lines: Iterable[str]) -> None:
        try:
            self._file.writelines(lines)
            self._file.flush()
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self._path}: {error.strerror or error}.")

    def close(self) -> None:
        """Closes the file and leaves it: the run may be continued."""
        self._file.close()

    def finish(self) -> None:
        """Takes the files of all hosts away: the run is complete."""
        self.close()
        self._drop({NAME, *self._paths()})

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)


def _other(host: int | str) -> str:
    """Name of the file of a host that is not the first."""
    return f".unfinished-{host}.jsonl"


def _record(line: str) -> dict[str, Any] | None:
    """A line, if it is whole."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) and "name" in record else None


def _picture(record: dict[str, Any]) -> Picture | None:
    """The picture that a record tells of."""
    try:
        return Picture(
            str(record["name"]),
            int(record["exit"]),
            tuple(math.nan if p is None else float(p) for p in record["predicted"]),
            float(record["gmacs"]),
            float(record["full_gmacs"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def _stamp(file: LabelFile) -> list[int] | None:
    """Size and time of change (ns) of a label map; None if it is gone."""
    try:
        found = file.path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
