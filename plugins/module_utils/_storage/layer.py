# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data in a container's own layer: where it lies on the host, and the way back into a new layer.

Postgres or Redis files in a layer are all in its upper directory, because the
image ships none; they can be read there while the container runs and after it
stopped. The way back goes through the engine, which alone may write a layer.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator

from ansible_collections.selfhost.stateful.plugins.module_utils._engine.api import Engine
from ansible_collections.selfhost.stateful.plugins.module_utils._engine.model import Container
from ansible_collections.selfhost.stateful.plugins.module_utils._storage.tree.mounts import nearest_existing


def layer_path(container: Container, path: str) -> str:
    """Return the host's directory of ``path`` in the container's layer; empty if the driver does not say."""
    upper = container.layers.get("UpperDir", "")
    return os.path.join(upper, path.lstrip("/")) if upper else ""


def shipped_by_image(container: Container, path: str) -> bool:
    """Tell whether the image's own layers hold files at ``path``: then the layer alone is not all of the data."""
    for lower in container.layers.get("LowerDir", "").split(":"):
        try:
            if lower and os.listdir(os.path.join(lower, path.lstrip("/"))):
                return True
        except (FileNotFoundError, NotADirectoryError):
            continue
    return False


def place_to_keep(layer: str, wanted: str, engine_root: str) -> str:
    """Return a directory that hard links from ``layer`` reach: ``wanted``, or one of ours in the engine's own place.

    Empty where neither lies on the layer's file system.
    """
    if not os.path.isdir(layer):
        return wanted
    for place in (wanted, os.path.join(os.path.realpath(engine_root), "selfhost-stateful", "retained")):
        if os.stat(nearest_existing(place)).st_dev == os.stat(layer).st_dev:
            return place
    return ""


def fill_layer(engine: Engine, container: Container, path: str, source: str) -> None:
    """Put the tree ``source`` at ``path`` into the layer of a container that was created and not started."""
    # From the root, because the image may lack the parent, which an entrypoint made.
    engine.put_archive(container.id, "/", tar_stream(source, path.strip("/")))


class _Buffer(io.RawIOBase):
    """Collects what tarfile writes until it is taken out, so that memory stays small."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, chunk: object) -> int:
        self._held += memoryview(chunk)  # type: ignore[arg-type]
        return len(memoryview(chunk))  # type: ignore[arg-type]

    def taken(self) -> bytes:
        content = bytes(self._held)
        self._held.clear()
        return content


def tar_stream(source: str, name: str) -> Iterator[bytes]:
    """Yield a tar of ``source`` under ``name`` with numeric owners, a file's content a chunk at a time."""
    buffer = _Buffer()
    with tarfile.open(mode="w|", fileobj=buffer, format=tarfile.PAX_FORMAT) as tar:
        for directory, names, files in os.walk(source):
            below = os.path.relpath(directory, source)
            prefix = name if below == "." else os.path.join(name, below)
            tar.addfile(_entry(tar, directory, prefix))
            for file in (*files, *(entry for entry in names if os.path.islink(os.path.join(directory, entry)))):
                path = os.path.join(directory, file)
                entry = _entry(tar, path, os.path.join(prefix, file))
                if entry.isreg():
                    with open(path, "rb") as content:
                        tar.addfile(entry, content)
                else:
                    tar.addfile(entry)
                yield buffer.taken()
    yield buffer.taken()


def _entry(tar: tarfile.TarFile, path: str, name: str) -> tarfile.TarInfo:
    entry = tar.gettarinfo(path, arcname=name)
    entry.uname = entry.gname = ""
    return entry
