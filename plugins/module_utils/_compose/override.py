# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The override file: a file of the admin's own that compose lays over the project's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import (
    Document,
    has_content,
    parse,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import Mount, check_mount, quoted
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_hunks import Edited, edited
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_image import check_image, set_image
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_mounts import set_bind_mounts
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_service import CannotEditInPlace
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_text import (
    ListStyle,
    insert_lines,
    item_lines,
    splice,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError

HEADER = "# Compose lays this file over the project's own."


def override_text(
    existing: str | None, mounts: Sequence[Mount], images: Mapping[str, str], *, version: str | None = None
) -> Edited:
    """Write or extend an override file so that it sets these mounts and images.

    :param version: the main file's ``version``, which compose 1 wants to find
        in every file of a project.
    """
    for mount in mounts:
        check_mount(mount)
    for service, image in images.items():
        check_image(service, image)
    before = existing or ""
    after = before if before.strip("\ufeff \r\n") else _empty(version)
    after = _with_services_key(after)
    try:
        for service in dict.fromkeys([*(mount.service for mount in mounts), *images]):
            own = [mount for mount in mounts if mount.service == service]
            after = _with_service(after, service, own, images.get(service))
        _prove(before, after, mounts, images)
        return edited(before, after, "extended override file" if before.strip() else "wrote override file")
    except CannotEditInPlace as error:
        reason = error.msg.split(". An override file")[0]
        raise InvalidInput(f"the override file itself cannot be edited: {reason}") from error


def _empty(version: str | None) -> str:
    return HEADER + "\n" + (f'version: "{version}"\n' if version else "") + "services:\n"


def _with_services_key(text: str) -> str:
    if not has_content(text):
        eol = "\r\n" if "\r\n" in text else "\n"
        return text + ("" if not text or text.endswith("\n") else eol) + "services:" + eol
    document = parse(text)
    services = document.root.get("services")
    if services is not None:
        if services.is_null and services.end > services.start:
            return splice(text, services.start, services.end, "")
        return text
    if document.root.flow:
        raise InvalidInput("the override file is written in flow form and has no 'services'")
    return insert_lines(document, document.root.end, ["services:"])


def _with_service(text: str, service: str, mounts: Sequence[Mount], image: str | None) -> str:
    document = parse(text)
    services_key, services = next(pair for pair in document.root.pairs() if pair[0].value == "services")
    if services.is_null:
        return insert_lines(document, services_key.end, _service_lines(service, mounts, image, 2, 2))
    found = services.pair(service)
    if found is None:
        if services.kind != "mapping" or services.flow:
            raise InvalidInput(f"line {document.line(services.start)}: 'services' of the override file is no block")
        column = document.column(services.children[0].start)
        return insert_lines(document, services.end, _service_lines(service, mounts, image, column, column or 2))
    if found[1].is_null:
        column = document.column(found[0].start)
        lines = _service_lines(service, mounts, image, column, column or 2)[1:]
        return insert_lines(document, found[0].end, lines)
    if mounts:
        text = set_bind_mounts(text, mounts).text
    return _with_image(parse(text), service, image) if image else text


def _with_image(document: Document, service: str, image: str) -> str:
    mapping = next(value for key, value in document.services().pairs() if key.value == service)
    if mapping.get("image") is not None:
        return set_image(document.text, service=service, image=image).text
    if mapping.flow:
        end = mapping.children[-1].end
        return splice(document.text, end, end, f', "image": {quoted(image, chr(34))}')
    column = document.column(mapping.children[0].start)
    return insert_lines(document, mapping.end, [f"{' ' * column}image: {quoted(image)}"])


def _service_lines(service: str, mounts: Sequence[Mount], image: str | None, column: int, step: int) -> list[str]:
    indent, inner = " " * column, " " * (column + step)
    lines = [f"{indent}{quoted(service)}:"]
    if image:
        lines.append(f"{inner}image: {quoted(image)}")
    if mounts:
        lines.append(f"{inner}volumes:")
        for mount in mounts:
            lines.extend(item_lines(mount, column + step + 2, ListStyle(2)))
    return lines


def _prove(before: str, after: str, mounts: Sequence[Mount], images: Mapping[str, str]) -> None:
    """Parsed again, the file has all that was asked for, and other services and keys as before."""
    concerned = {*(mount.service for mount in mounts), *images}
    document = parse(after)
    wrong = set_bind_mounts(after, mounts).changed or any(
        set_image(after, service=service, image=image).changed for service, image in images.items()
    )
    if has_content(before):
        wrong = wrong or _rest(parse(before), concerned) != _rest(document, concerned)
    if wrong:
        raise StatefulError("the edit of the override file could not be proved, so it was not made")


def _rest(document: Document, concerned: set[str]) -> object:
    services = document.root.get("services")
    others = (
        {key.value: value.data() for key, value in services.pairs() if key.value not in concerned} if services else {}
    )
    top = {key.value: value.data() for key, value in document.root.pairs() if key.value != "services"}
    return top, others
