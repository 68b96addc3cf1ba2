# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the files and the programs of a Postgres image say, turned into facts. Pure."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import GLIBC, MUSL

ANY = "ANY"
"""The version by which PostGIS takes itself from whatever it was to the current one."""
PT_INTERP = 3


def version_of(answer: str) -> tuple[str, int] | None:
    """Return ``("17.2", 170002)`` for what ``postgres --version`` prints; None for what is no Postgres's answer.

    A release candidate counts as the first release of its major.
    """
    found = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?(?:\.(\d+))?(?:[a-z]+\d+)?", answer)
    if found is None:
        return None
    first, second, third = (int(part or 0) for part in found.groups())
    if first >= 10:
        return f"{first}.{second}", first * 10000 + second
    return f"{first}.{second}.{third}", first * 10000 + second * 100 + third


@dataclass(frozen=True)
class Layout:
    """Where an installation keeps what belongs together; each a path inside the image."""

    bin: str
    share: str
    library: str


def layouts(bin_directory: str) -> tuple[Layout, ...]:
    """Return the usual places around a directory of server programs, for where ``pg_config`` does not tell them."""
    found = []
    debian = re.fullmatch(r"(/.*)/lib/postgresql/([\d.]+)/bin", bin_directory)
    if debian:
        prefix, major = debian.groups()
        library = f"{prefix}/lib/postgresql/{major}/lib"
        found.append(Layout(bin_directory, f"{prefix}/share/postgresql/{major}", library))
    alpine = re.fullmatch(r"(/.*)/libexec/postgresql-?([\d.]+)", bin_directory)
    if alpine:
        prefix, major = alpine.groups()
        found.append(Layout(bin_directory, f"{prefix}/share/postgresql{major}", f"{prefix}/lib/postgresql{major}"))
    prefix = os.path.dirname(bin_directory)
    for share, library in (("postgresql", "lib/postgresql"), ("pgsql", "lib64/pgsql"), ("", "lib")):
        found.append(Layout(bin_directory, os.path.normpath(f"{prefix}/share/{share}"), f"{prefix}/{library}"))
    return tuple(found)


def layout_from(answer: str) -> Layout | None:
    """Return what ``pg_config --bindir --sharedir --pkglibdir`` prints, a line each."""
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    return Layout(*lines) if len(lines) == 3 and all(line.startswith("/") for line in lines) else None


def loader_of(program: bytes) -> str:
    """Return the path of the loader that an ELF program names, empty for a static one and for what is none."""
    if program[:4] != b"\x7fELF" or len(program) < 64:
        return ""
    wide, order = program[4] == 2, "<" if program[5] == 1 else ">"
    if wide:
        (offset,) = struct.unpack_from(f"{order}Q", program, 32)
        size, count = struct.unpack_from(f"{order}HH", program, 54)
    else:
        (offset,) = struct.unpack_from(f"{order}I", program, 28)
        size, count = struct.unpack_from(f"{order}HH", program, 42)
    for at in range(offset, offset + size * count, size):
        if at + size > len(program):
            break
        if struct.unpack_from(f"{order}I", program, at)[0] != PT_INTERP:
            continue
        (begins,) = struct.unpack_from(f"{order}Q" if wide else f"{order}I", program, at + (8 if wide else 4))
        (length,) = struct.unpack_from(f"{order}Q" if wide else f"{order}I", program, at + (32 if wide else 16))
        return program[begins : begins + length].rstrip(b"\0").decode("utf-8", "replace")
    return ""


def libc_of(loader: str) -> str:
    """Return the kind of libc that comes with a loader; empty for an unknown one."""
    name = os.path.basename(loader)
    if name.startswith("ld-musl"):
        return MUSL
    return GLIBC if re.match(r"ld(-linux.*|64)?\.so", name) or name.startswith("ld-linux") else ""


def icu_of(program: bytes) -> str:
    """Return the major version of the ICU library that a program is linked with."""
    found = re.search(rb"libicui18n\.so\.(\d+)", program)
    return found.group(1).decode() if found else ""


def has_lz4(program: bytes) -> bool:
    """Tell whether a server, and so what was built with it, is linked with LZ4."""
    return b"liblz4.so" in program


def glibc_version(answer: str) -> str:
    """Return the version at the end of the first line: ``glibc 2.36``, ``ldd (Debian GLIBC 2.36-9) 2.36``."""
    found = re.search(r"(\d+\.\d+)\s*$", answer.strip().partition("\n")[0])
    return found.group(1) if found else ""


def musl_version(answer: str) -> str:
    """Return the version out of what musl's loader says when it is called without a program."""
    found = re.search(r"^Version (\S+)", answer, re.MULTILINE)
    return found.group(1) if found else ""


def user_from(wanted: str, passwd: str, group: str) -> tuple[int, int] | None:
    """Return the numeric user and group of ``wanted``: a name or number, ``:`` and a group may follow.

    As the engine does it: a number that /etc/passwd does not know belongs to group 0.
    """
    name, _colon, group_name = wanted.partition(":")
    users = [line.split(":") for line in passwd.splitlines() if line.count(":") >= 3]
    entry = next((user for user in users if name == user[0] or (name.isdigit() and name == user[2])), None)
    if entry is None and not name.isdigit():
        return None
    gid = int(entry[3]) if entry else 0
    if group_name.isdigit():
        gid = int(group_name)
    elif group_name:
        groups = {line.split(":")[0]: line.split(":")[2] for line in group.splitlines() if line.count(":") >= 2}
        if group_name not in groups:
            return None
        gid = int(groups[group_name])
    return (int(entry[2]) if entry else int(name)), gid


def normal_locale(name: str) -> str:
    """Return a locale as libc compares it: ``en_US.UTF-8`` and ``en_US.utf8`` are one."""
    return name.strip().lower().replace("-", "")


def locales_from(answer: str) -> tuple[str, ...]:
    """Return what ``locale -a`` lists."""
    return tuple(sorted({normal_locale(line) for line in answer.splitlines() if line.strip()}))


def parameters_from(answer: str) -> tuple[str, ...]:
    """Return the names that ``postgres --describe-config`` lists."""
    return tuple(sorted(line.partition("\t")[0] for line in answer.splitlines() if line.count("\t") >= 3))


def control_value(control: str, key: str) -> str:
    """Return a value of an extension's control file; empty where it is not set."""
    found = re.search(rf"^\s*{key}\s*=\s*(?:'((?:[^']|'')*)'|([^\s#]+))", control, re.MULTILINE)
    if found is None:
        return ""
    quoted, bare = found.groups()
    return str(bare) if quoted is None else str(quoted).replace("''", "'")


def scripts_by_extension(names: Iterable[str]) -> Mapping[str, tuple[tuple[str, ...], ...]]:
    """Return by extension the versions that its scripts name: ``(to,)`` for an installation, ``(from, to)``."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for name in names:
        extension, *versions = name[: -len(".sql")].split("--") if name.endswith(".sql") else [name]
        if len(versions) in (1, 2) and all(versions):
            found.setdefault(extension, []).append(tuple(versions))
    return {extension: tuple(scripts) for extension, scripts in found.items()}


def reaching(target: str, scripts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the versions from which a chain of update scripts leads to ``target``, itself among them."""
    steps = [script for script in scripts if len(script) == 2]
    found = [target]
    for version in found:  # it grows while it is walked
        found += [before for before, after in steps if after == version and before not in found]
    return tuple(sorted(found))


def library_of(probin: str) -> str:
    """Return the library that a function names as :class:`model.Library` has it: ``$libdir/hstore`` is ``hstore``."""
    name = probin[: -len(".so")] if probin.endswith(".so") else probin
    return name[len("$libdir/") :] if name.startswith("$libdir/") else name


def hba_methods(text: str) -> tuple[str, ...]:
    """Return the methods of a pg_hba.conf in its order, each once; for servers that do not list their rules."""
    methods = []
    for line in text.splitlines():
        # A list of names may have blanks behind its commas.
        fields = re.findall(r'(?:"[^"]*"|[^\s"])+', re.sub(r",\s+", ",", line.partition("#")[0]))
        if not fields:
            continue
        at = 3 if fields[0] == "local" else 4
        if at == 4 and len(fields) > 5 and re.fullmatch(r"[\d.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*", fields[3]):
            at = 5  # a bare address, with its mask behind it
        if len(fields) > at:
            methods.append(fields[at])
    return tuple(dict.fromkeys(methods))
