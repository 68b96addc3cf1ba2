# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put bind mounts into a compose file's text; all that is not concerned stays byte for byte."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import Document, Node, parse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.dotenv import interpolate
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_comments import (
    commented_entries,
    without_comment,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import (
    Entry,
    Mount,
    check_mount,
    interpolated,
    may_be_target,
    normal_target,
    read_entry,
    read_short,
    same_target,
    written_source,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_hunks import Edited, edited
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_replace import with_entry_replaced
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_service import (
    CannotEditInPlace,
    find_service,
    require_own,
    require_unshared,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_text import (
    apply,
    dash_of,
    flow_item,
    insert_lines,
    item_lines,
    item_style,
    put_value,
    splice,
    volumes_style,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_volumes import drop_unused_volumes
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput

ALREADY_THERE = "already there"
RESET = "!reset"
"""The tag with which compose forgets a list, whatever it holds."""


def set_bind_mounts(
    text: str, mounts: Sequence[Mount], *, project_dir: str | None = None, volumes_elsewhere: Collection[str] = ()
) -> Edited:
    """Make each of ``mounts`` what its service mounts at that container path.

    :param project_dir: what relative sources count from, to recognise the same
        place written in another way.
    :param volumes_elsewhere: names of volumes that the project's other files
        refer to (see ``volumes_used``): their declarations stay.
    :raises CannotEditInPlace: when an override file is the way.
    :raises InvalidInput: when the file or the request cannot be worked with.
    """
    seen: set[tuple[str, str]] = set()
    for mount in mounts:
        check_mount(mount)
        if (mount.service, normal_target(mount.target)) in seen:
            raise InvalidInput(f"two mounts are asked for at {mount.target} of service '{mount.service}'")
        seen.add((mount.service, normal_target(mount.target)))
    result, ways, replaced = text, [], []
    for mount in mounts:
        document = parse(result)
        replaced.extend(_named_volumes_at(document, mount))
        result, how = _set_one(document, mount, project_dir)
        if how not in ways:
            ways.append(how)
    result = drop_unused_volumes(result, replaced, volumes_elsewhere)
    changes = [how for how in ways if how != ALREADY_THERE]
    return edited(text, result, ", ".join(changes))


def decides_mount(text: str, service: str, target: str) -> bool:
    """Whether this very text has the last word on what the service mounts at this container path, or may have it.

    That is an entry for the path, one whose path depends on variables, and a list
    that takes the place of all before it.
    """
    volumes = _volumes_of(parse(text), service)
    if volumes is None:
        return False
    entries = [read_entry(item) for item in volumes.children]
    return volumes.tag is not None or any(
        entry is not None and (same_target(entry, target) or may_be_target(entry, target)) for entry in entries
    )


def has_mount(
    text: str, mount: Mount, project_dir: str | None = None, variables: Mapping[str, str] | None = None
) -> bool:
    """Whether this very text has the bind mount as asked for, also by way of ``variables``."""
    volumes = _volumes_of(parse(text), mount.service)
    if volumes is None or volumes.tag == RESET:
        return False
    entries = [_with_variables(item, variables or {}) for item in volumes.children]
    there = [entry for entry in entries if entry is not None and _concerns(entry, mount)]
    return len(there) == 1 and _is_as_asked(there[0], mount, project_dir)


def targets_of(
    text: str, service: str, source: str, project_dir: str | None = None, variables: Mapping[str, str] | None = None
) -> list[str]:
    """Where this very text mounts the directory ``source`` into a service, or else a comment of it would."""
    document = parse(text)
    services = document.root.get("services")
    declared = services.pair(service) if services is not None and services.kind == "mapping" else None
    volumes = _volumes_of(document, service)
    items = volumes.children if volumes is not None and volumes.tag != RESET else ()
    active = [_with_variables(item, variables or {}) for item in items]
    commented = commented_entries(document, declared) if declared is not None else ()
    for entries in (active, commented):
        found = [
            normal_target(entry.target)
            for entry in entries
            if entry is not None
            and entry.kind == "bind"
            and not interpolated(entry.target)
            and _place(entry.source, project_dir) == _place(written_source(source), project_dir)
        ]
        if found:
            return list(dict.fromkeys(found))
    return []


def _with_variables(item: Node, variables: Mapping[str, str]) -> Entry | None:
    if item.resolved.kind == "scalar":
        return read_short(interpolate(item.resolved.value, variables)) if variables else read_entry(item)
    entry = read_entry(item)
    if entry is None:
        return None
    source, target = interpolate(entry.source, variables), interpolate(entry.target, variables)
    return replace(entry, source=source, target=target) if variables else entry


def _volumes_of(document: Document, service: str) -> Node | None:
    services = document.root.get("services")
    mapping = services.get(service) if services is not None else None
    volumes = mapping.resolved.get("volumes") if mapping is not None else None
    return volumes.resolved if volumes is not None else None


def _entries_at(document: Document, service: str, target: str) -> list[Node]:
    volumes = _volumes_of(document, service)
    if volumes is None or volumes.tag == RESET:
        return []
    items = [(item, read_entry(item)) for item in volumes.children]
    return [item for item, entry in items if entry is not None and same_target(entry, target)]


def _set_one(document: Document, mount: Mount, project_dir: str | None) -> tuple[str, str]:
    key, service = find_service(document, mount.service)
    _refuse_tmpfs(document, service, mount)
    match = _match(document, service, mount)
    if match is not None and _is_there(match, mount, project_dir):
        return document.text, ALREADY_THERE
    for how, candidate in _candidates(document, (key, service), match, mount):
        if _proved(document, candidate, mount):
            return candidate, how
    raise CannotEditInPlace(
        f"line {document.line(key.start)}: no edit of service '{mount.service}' was found "
        f"that changes the mount at {mount.target} and nothing else"
    )


def _candidates(
    document: Document, service: tuple[Node, Node], match: Node | None, mount: Mount
) -> Iterator[tuple[str, str]]:
    """Ways to write the mount, best first. A comment that looks like a mount may be none: the caller proves each."""
    volumes = service[1].pair("volumes")
    if match is not None:
        yield "replaced", with_entry_replaced(document, match, mount, flow=_list_flow(volumes))
        return
    if volumes is None or volumes[1].is_null:
        style = volumes_style(document, service[1])
        column = document.column(service[1].children[0].start)
        header = volumes is None
        if not service[1].flow:
            at = column if header else column + style.offset
            yield from _from_comment(document, service, mount, column=at, header=header)
        yield "added volumes key", _with_volumes_key(document, service[1], mount)
        return
    last = volumes[1].children[-1] if volumes[1].children else None
    dash = dash_of(document, last) if last is not None and not volumes[1].flow else None
    if dash is not None:
        yield from _from_comment(document, service, mount, column=document.column(dash), header=False)
    yield "appended", _appended(document, volumes, mount)


def _from_comment(
    document: Document, service: tuple[Node, Node], mount: Mount, *, column: int, header: bool
) -> Iterator[tuple[str, str]]:
    for text in without_comment(document, service, mount.target, column=column, header=header):
        try:
            uncommented = parse(text)
            match = _match(uncommented, find_service(uncommented, mount.service)[1], mount)
        except InvalidInput:
            continue
        if match is not None:
            same = _is_there(match, mount, None)
            yield "uncommented", text if same else with_entry_replaced(uncommented, match, mount, flow=False)


def _match(document: Document, service: Node, mount: Mount) -> Node | None:
    """The one item of the service's list for this container path."""
    volumes = service.get("volumes")
    if volumes is not None and volumes.tag is not None:
        raise InvalidInput(
            f"line {document.line(volumes.start)}: the 'volumes' of service '{mount.service}' carry the tag"
            f" {volumes.tag}, which sets aside what other files say of them",
            next_command="write the mount into that list by hand and set 'rewrite: none', or take the tag out;"
            " then run the same task again",
        )
    if volumes is None or volumes.is_null:
        require_own(document, mount.service, service, "volumes")
        return None
    require_unshared(document, mount.service, volumes, "the 'volumes'")
    line = document.line(volumes.start)
    if volumes.kind != "sequence":
        raise InvalidInput(f"line {line}: the 'volumes' of service '{mount.service}' are not a list")
    matches = []
    for item in volumes.children:
        entry = read_entry(item)
        if entry is None or any(may_be_target(entry, target) for target in mount.targets):
            raise CannotEditInPlace(
                f"line {document.line(item.start)}: whether this entry of service '{mount.service}' "
                f"mounts {mount.target} depends on variables"
            )
        if _concerns(entry, mount):
            matches.append(item)
    if len(matches) > 1:
        lines = " and ".join(str(document.line(item.start)) for item in matches)
        raise InvalidInput(f"lines {lines}: service '{mount.service}' has two entries for {mount.target}")
    if not matches:
        if service.get("extends") is not None:
            require_own(document, mount.service, service, "volumes")
        return None
    if matches[0].kind == "alias" or matches[0].anchor is not None or matches[0].tag is not None:
        raise CannotEditInPlace(f"line {document.line(matches[0].start)}: the entry for {mount.target} is an anchor's")
    return matches[0]


def _concerns(entry: Entry, mount: Mount) -> bool:
    return any(same_target(entry, target) for target in mount.targets)


def _is_there(item: Node, mount: Mount, project_dir: str | None) -> bool:
    entry = read_entry(item)
    return entry is not None and _is_as_asked(entry, mount, project_dir)


def _is_as_asked(entry: Entry, mount: Mount, project_dir: str | None) -> bool:
    if entry.kind != "bind" or (mount.read_only and "ro" not in entry.options) or not same_target(entry, mount.target):
        return False
    return _place(entry.source, project_dir) == _place(written_source(mount.source), project_dir)


def _place(source: str, project_dir: str | None) -> str:
    if source.startswith("~") or project_dir is None:
        return posixpath.normpath(source)
    return posixpath.normpath(posixpath.join(project_dir.replace("$", "$$"), source))


def _appended(document: Document, volumes: tuple[Node, Node], mount: Mount) -> str:
    sequence = volumes[1]
    if not sequence.flow:
        style = item_style(document, *volumes)
        if style is None:
            raise CannotEditInPlace(f"line {document.line(sequence.start)}: comments stand in the way")
        column = document.column(volumes[0].start) + style.offset
        return insert_lines(document, sequence.end, item_lines(mount, column, style))
    if not sequence.children:
        return splice(document.text, sequence.end - 1, sequence.end - 1, flow_item(mount, None))
    last = sequence.children[-1]
    start = document.line_start(last.start)
    own_line = not document.text[start : last.start].strip()
    separator = "," + (document.eol + document.text[start : last.start] if own_line else " ")
    new = flow_item(mount, last.style, long=last.kind == "mapping")
    return splice(document.text, last.end, last.end, separator + new)


def _with_volumes_key(document: Document, service: Node, mount: Mount) -> str:
    pair = service.pair("volumes")
    if service.flow or (pair is not None and pair[1].end > pair[1].start):
        return _with_flow_list(document, service, pair, mount)
    if not service.children:
        raise InvalidInput(f"line {document.line(service.start)}: the service '{mount.service}' is empty")
    style = volumes_style(document, service)
    column = document.column(service.children[0].start)
    items = item_lines(mount, column + style.offset, style)
    if pair is not None:
        return insert_lines(document, pair[1].end, items)
    return insert_lines(document, service.end, [" " * column + "volumes:", *items])


def _with_flow_list(document: Document, service: Node, pair: tuple[Node, Node] | None, mount: Mount) -> str:
    new = f"[{flow_item(mount, None)}]"
    if pair is not None:
        return apply(document.text, [put_value(document, pair[1], new)])
    if not service.children:
        raise InvalidInput(f"line {document.line(service.start)}: the service '{mount.service}' is empty")
    quote = '"' if service.children[0].style == '"' else ""
    return splice(document.text, service.children[-1].end, service.children[-1].end, f", {quote}volumes{quote}: {new}")


def _list_flow(volumes: tuple[Node, Node] | None) -> bool:
    return volumes is not None and volumes[1].flow


def _refuse_tmpfs(document: Document, service: Node, mount: Mount) -> None:
    tmpfs = service.get("tmpfs")
    if tmpfs is None:
        return
    items = tmpfs.resolved.children if tmpfs.resolved.kind == "sequence" else (tmpfs.resolved,)
    for item in items:
        if normal_target(item.resolved.value.split(":", 1)[0]) == normal_target(mount.target):
            line = document.line(item.start)
            raise InvalidInput(
                f"line {line}: service '{mount.service}' has a tmpfs at {mount.target}; "
                "compose refuses two mounts on one path, so take that line out first"
            )


def _named_volumes_at(document: Document, mount: Mount) -> list[str]:
    items = [item for target in mount.targets for item in _entries_at(document, mount.service, target)]
    entries = [read_entry(item) for item in items]
    return [entry.source for entry in entries if entry is not None and entry.kind == "volume" and entry.source]


def _proved(document: Document, candidate: str, mount: Mount) -> bool:
    """Whether the candidate, parsed again, differs in exactly the intended mount."""
    try:
        after = parse(candidate)
        old = find_service(document, mount.service)[1]
        new = find_service(after, mount.service)[1]
        match = _match(after, new, mount)
    except InvalidInput:
        return False
    if match is None or not _is_there(match, mount, None):
        return False
    return _rest(document, old, mount) == _rest(after, new, mount)


def _rest(document: Document, service: Node, mount: Mount) -> object:
    """All that a document means, less this one mount."""
    services = {key.value: value.data() for key, value in document.services().pairs() if key.value != mount.service}
    others = {key.value: value.data() for key, value in document.root.pairs() if key.value != "services"}
    own = {key.value: value.data() for key, value in service.pairs() if key.value != "volumes"}
    volumes = service.get("volumes")
    mounts = []
    for item in volumes.children if volumes is not None else ():
        entry = read_entry(item)
        if entry is None or not _concerns(entry, mount):
            mounts.append(item.data())
    return services, others, own, service.anchor, service.tag, mounts
