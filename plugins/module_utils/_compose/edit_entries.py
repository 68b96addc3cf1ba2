# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One entry of a service's ``volumes``: how compose reads it, and how ours is written.

The short form is ``[SOURCE:]TARGET[:OPTIONS]``, where a colon inside ``${...}``
and the one behind a Windows drive letter separate nothing
(https://docs.docker.com/reference/compose-file/services/#short-syntax-5).
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import Node
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput

# What a bind mount can keep of the options of the mount it replaces: the labels
# for SELinux, read-only, propagation and consistency, but not ``nocopy``, which
# only a volume knows.
BIND_OPTIONS = frozenset(
    ("ro", "rw", "z", "Z", "cached", "consistent", "delegated")
    + ("private", "rprivate", "shared", "rshared", "slave", "rslave")
)
_INTERPOLATION = re.compile(r"\$(?:\$|\{|[A-Za-z_])")
_PLAIN = re.compile(r"[A-Za-z0-9_./~$][A-Za-z0-9_./:~${}@%+=,-]*\Z")
# What YAML 1.1 would read as something other than this string.
_AMBIGUOUS = re.compile(r"(y|n|yes|no|on|off|true|false|null|~|[-+.\d][\d_.,:xobe+-]*)\Z", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


@dataclass(frozen=True)
class Mount:
    """A bind mount as in compose's long form. ``source`` is a path: relative ones count from the project directory.

    ``replaces``: another target, whose mount this one takes the place of; empty for none.
    """

    service: str
    target: str
    source: str
    read_only: bool = False
    replaces: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """Return every container path whose entry this mount is about."""
        return (self.target, self.replaces) if self.replaces else (self.target,)


@dataclass(frozen=True)
class Entry:
    """What one item of ``volumes`` says. ``source`` is empty for an anonymous volume."""

    kind: str
    """bind, volume, tmpfs, or another type of the long form."""
    source: str
    target: str
    options: tuple[str, ...] = ()
    long: bool = False


def split_short(spec: str) -> list[str]:
    """Split a short-form entry at the colons that separate."""
    parts: list[str] = []
    depth, current, index = 0, "", 0
    while index < len(spec):
        char = spec[index]
        if spec.startswith("${", index):
            depth += 1
            current += "${"
            index += 2
            continue
        if char == "}" and depth:
            depth -= 1
        drive = not parts and len(current) == 1 and current.isalpha() and spec[index + 1 : index + 2] in ("\\", "/")
        if char == ":" and not depth and not drive:
            parts.append(current)
            current = ""
        else:
            current += char
        index += 1
    return [*parts, current]


def read_entry(node: Node) -> Entry | None:
    """Read one item of a ``volumes`` list; ``None`` for what compose would not accept there either."""
    item = node.resolved
    if item.kind == "scalar":
        return read_short(item.value)
    if item.kind != "mapping":
        return None
    target, source, kind, read_only = (item.get(key) for key in ("target", "source", "type", "read_only"))
    if target is None or target.resolved.kind != "scalar":
        return None
    return Entry(
        kind=kind.resolved.value if kind is not None else "volume",
        source=source.resolved.value if source is not None else "",
        target=target.resolved.value,
        options=("ro",) if read_only is not None and read_only.resolved.value.lower() in ("true", "yes", "on") else (),
        long=True,
    )


def read_short(spec: str) -> Entry | None:
    parts = split_short(spec)
    if len(parts) > 3 or not all(parts):
        return None
    if len(parts) == 1:
        return Entry("volume", "", parts[0])
    source, target = parts[0], parts[1]
    options = tuple(parts[2].split(",")) if len(parts) == 3 else ()
    return Entry("bind" if is_path(source) else "volume", source, target, options)


def is_path(source: str) -> bool:
    """Whether compose takes a short-form source for a path. What is interpolated counts as one unless it ends plain."""
    return source.startswith((".", "/", "~")) or "/" in source or "\\" in source


def interpolated(text: str) -> bool:
    return any(found.group() != "$$" for found in _INTERPOLATION.finditer(text))


def normal_target(target: str) -> str:
    """A container path as the engine compares them: no trailing slash, no ``//`` and ``.``."""
    path = posixpath.normpath(target.replace("$$", "$"))
    return "/" + path.lstrip("/") if path.startswith("/") else path


def same_target(entry: Entry, target: str) -> bool:
    return not interpolated(entry.target) and normal_target(entry.target) == normal_target(target)


def may_be_target(entry: Entry, target: str) -> bool:
    """Whether an interpolated target could turn out to be ``target``: what stands around the variables decides."""
    if not interpolated(entry.target):
        return False
    wanted = normal_target(target)
    head = entry.target[: entry.target.index("$")]
    tail = re.split(r"\}|\$[A-Za-z_][A-Za-z0-9_]*", entry.target)[-1].rstrip("/")
    return wanted.startswith(head.rstrip("/")) and wanted.endswith(tail)


def written_source(source: str) -> str:
    """A path as compose has to find it in the file: ``./`` before a relative one, ``$`` doubled."""
    path = source.rstrip("/") or "/"
    if not path.startswith(("/", "./", "../", "~/")) and path not in (".", "..", "~"):
        path = "./" + path
    return path.replace("$", "$$")


def check_mount(mount: Mount) -> None:
    for name, value in (("source", mount.source), ("target", mount.target)):
        if not value or _CONTROL.search(value):
            raise InvalidInput(
                f"the {name} {value!r} of service '{mount.service}' cannot be written into a compose file"
            )
    if not mount.target.startswith("/"):
        raise InvalidInput(f"the target {mount.target!r} of service '{mount.service}' is not an absolute path")
    if normal_target(mount.target) == "/":
        raise InvalidInput(f"the target of service '{mount.service}' is the container's root")


def needs_long_form(mount: Mount) -> bool:
    return ":" in mount.source or ":" in mount.target


def short_form(mount: Mount, options: Sequence[str] = ()) -> str:
    kept = [option for option in options if option in BIND_OPTIONS and not (mount.read_only and option in ("ro", "rw"))]
    if mount.read_only:
        kept.insert(0, "ro")
    target = mount.target.rstrip("/").replace("$", "$$")
    return ":".join([written_source(mount.source), target, *([",".join(kept)] if kept else [])])


def long_form(mount: Mount, options: Sequence[str] = (), like: str | None = None) -> dict[str, str]:
    """The pairs of the long form, values ready to be written."""
    pairs = {
        "type": quoted("bind", like),
        "source": quoted(written_source(mount.source), like),
        "target": quoted(mount.target.rstrip("/").replace("$", "$$"), like),
    }
    if mount.read_only or "ro" in options:
        pairs["read_only"] = "true"
    return pairs


def quoted(value: str, like: str | None = None) -> str:
    """Write a scalar with the quotes of its neighbour, or plain where YAML surely reads it back as this string."""
    if like == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if like == '"' or not _PLAIN.match(value) or value.endswith(":") or _AMBIGUOUS.match(value):
        return json.dumps(value, ensure_ascii=not value.isprintable())
    return value
