# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files of a data directory are its configuration: those with usual names, and what they name in turn.

A file outside the data directory stays where it is, for the old server and the new one. One inside may be named by its
absolute path, which a new layout changes: that becomes relative, as each kind of file takes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError

MAIN = "postgresql.conf"
FILES = (MAIN, "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf")
CERTIFICATES = ("server.crt", "server.key", "root.crt", "root.crl")
"""What the settings of TLS name where nobody set them, and what their examples do."""
AUTHENTICATION = ("hba_file", "ident_file")
PLAIN_FILES = (
    *("ssl_cert_file", "ssl_key_file", "ssl_ca_file", "ssl_crl_file", "ssl_crl_dir"),
    *("ssl_dh_params_file", "krb_server_keyfile"),
)
INCLUDES = ("include", "include_if_exists", "include_dir")
AT_MOST = 200

SETTINGS, RULES, PLAIN = "settings", "rules", "plain"
"""What a file holds: parameters, lines of authentication (or a list of names), or what only the server reads."""

_SETTING = re.compile(
    r"^[ \t]*([A-Za-z_]\w*)(?:[ \t]*=[ \t]*|[ \t]+)(?:'([^'\n]+)'|([A-Za-z_][\w.:/-]*))", re.MULTILINE
)
_INCLUDED_RULES = re.compile(
    r"^[ \t]*(include|include_if_exists|include_dir)[ \t]+(?:\"([^\"\n]+)\"|([^\s#\"]+))", re.MULTILINE
)
_LIST = re.compile(r"^(?:[^#\n]*[\s,])?@(?:\"([^\"\n]+)\"|([^\s,#\"]+))", re.MULTILINE)


@dataclass(frozen=True)
class _Named:
    """A file or directory that a file names between ``begin`` and ``end``.

    ``inner`` is where it lies in the data directory, empty for one outside; ``base`` is what a relative path is meant
    from.
    """

    begin: int
    end: int
    path: str
    inner: str
    base: str
    kind: str


def configuration_files(
    directory: str, data_directory: str = "", named: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the configuration files of a data directory, relative to it, with what each holds.

    ``data_directory`` is how the server calls it; ``named`` are further files, as the server names them, with what each
    holds. Raises where there are more than :data:`AT_MOST`.
    """
    pending = [(name, RULES if name.startswith("pg_") else SETTINGS) for name in FILES]
    pending += [(name, PLAIN) for name in CERTIFICATES]
    pending += [(inner, kind) for path, kind in (named or {}).items() if (inner := _inner(path, "", data_directory))]
    found: dict[str, str] = {}
    while pending:
        name, kind = pending.pop(0)
        place = os.path.join(directory, name)
        if os.path.isdir(place) and (not os.path.islink(place) or leads_inside(directory, place)):
            inside = sorted(each for each in os.listdir(place) if kind == PLAIN or _is_read(each))
            pending[:0] = [(os.path.join(name, each), kind) for each in inside if not _is_directory(place, each)]
        elif os.path.lexists(place) and (name not in found or found[name] == PLAIN):
            found[name] = kind
            if len(found) > AT_MOST:
                raise StatefulError(
                    f"The configuration in {directory} has more than {AT_MOST} files, {name} among them: they are not"
                    " taken along.",
                    next_command="keep configuration files outside the data directory, or fewer of them in it",
                )
            if kind != PLAIN and os.path.isfile(place):
                pending += [(each.inner, each.kind) for each in _named(name, read(place), kind, data_directory)]
    return found


def leads_inside(directory: str, link: str) -> bool:
    """Tell whether a link leads to something in the data directory: any other is the server's own to follow."""
    inside = os.path.realpath(link).startswith(os.path.realpath(directory) + os.sep)
    return inside and not os.path.isabs(os.readlink(link)) and os.path.exists(link)


def _is_read(name: str) -> bool:
    return name.endswith(".conf") and not name.startswith(".")


def _is_directory(place: str, name: str) -> bool:
    return os.path.isdir(os.path.join(place, name))


def read(path: str) -> str:
    """Return the text of a file, whatever its encoding, as :func:`written <open>` back the same."""
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read()


def with_relative_paths(name: str, text: str, kind: str, data_directory: str) -> str:
    """Return the text of the file ``name`` with relative paths for the absolute ones into the data directory."""
    if kind == PLAIN:
        return text
    for each in sorted(_all_named(name, text, kind, data_directory), key=lambda one: one.begin, reverse=True):
        if each.inner and each.path.startswith("/"):
            text = text[: each.begin] + os.path.relpath(each.inner, each.base or ".") + text[each.end :]
    return text


def _named(name: str, text: str, kind: str, data_directory: str) -> Iterator[_Named]:
    return (each for each in _all_named(name, text, kind, data_directory) if each.inner)


def _all_named(name: str, text: str, kind: str, data_directory: str) -> Iterator[_Named]:
    here = os.path.dirname(name)
    if kind == SETTINGS:
        for match in _SETTING.finditer(text):
            word = match[1].lower()
            if word in INCLUDES:
                yield _found(match, 2, here, SETTINGS, data_directory)
            elif word in AUTHENTICATION:
                yield _found(match, 2, "", RULES, data_directory)
            elif word in PLAIN_FILES:
                yield _found(match, 2, "", PLAIN, data_directory)
        return
    for match in _INCLUDED_RULES.finditer(text):
        yield _found(match, 2, here, RULES, data_directory)
    for match in _LIST.finditer(text):
        yield _found(match, 1, here, RULES, data_directory)


def _found(match: re.Match[str], group: int, base: str, kind: str, data_directory: str) -> _Named:
    group = group if match[group] is not None else group + 1
    path = match[group]
    return _Named(match.start(group), match.end(group), path, _inner(path, base, data_directory), base, kind)


def _inner(path: str, base: str, data_directory: str) -> str:
    """Return where a named file lies in the data directory; empty where it lies elsewhere."""
    if path.startswith("/"):
        top = data_directory.rstrip("/") + "/"
        path = os.path.normpath(path)
        return path[len(top) :] if data_directory and path.startswith(top) else ""
    inner = os.path.normpath(os.path.join(base, path)) if path else ""
    return "" if inner in (".", "..") or inner.startswith("../") else inner
