# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find the service of an edit, and refuse where an edit in place would reach further than meant.

A text that an anchor, a merge key, ``extends`` or ``include`` shares between
services cannot be changed for one of them; compose's override file can.
"""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import Document, Node
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput


class CannotEditInPlace(InvalidInput):
    """An edit in place would change more than the one service; an override file is the way."""

    def __init__(self, msg: str) -> None:
        super().__init__(
            f"{msg}. An override file changes this one service alone: use 'rewrite: override'",
            next_command="set 'rewrite: override' and run the same task again",
            way="override",
        )


def find_service(document: Document, name: str) -> tuple[Node, Node]:
    """The key and the mapping of a service that this very text declares, and that nothing else shares."""
    pair = document.services().pair(name) if document.root.get("services") is not None else None
    if pair is None:
        if document.root.get("include") is not None:
            raise CannotEditInPlace(f"the service '{name}' comes into the project by 'include'")
        names = ", ".join(document.services().names()) or "none"
        raise InvalidInput(f"there is no service '{name}' in the file (services: {names})")
    key, service = pair
    line = document.line(key.start)
    if service.kind == "alias":
        raise CannotEditInPlace(f"line {line}: the service '{name}' is an alias of '&{service.value}'")
    if service.kind != "mapping":
        raise InvalidInput(f"line {line}: the service '{name}' is not a mapping")
    if document.is_shared(service) or document.is_shared(document.services()):
        raise CannotEditInPlace(f"line {line}: the service '{name}' is also used elsewhere by its anchor")
    for other, _unused in _extending(document, name):
        raise CannotEditInPlace(f"line {line}: the service '{name}' is extended by '{other.value}'")
    return pair


def merged(service: Node, key: str) -> bool:
    """Whether a merge key brings this key into the service."""
    for merge_key, value in service.pairs():
        if merge_key.value != "<<" or merge_key.style is not None:
            continue
        sources = value.children if value.kind == "sequence" else (value,)
        for source in sources:
            fragment = source.resolved
            if fragment.get(key) is not None or merged(fragment, key):
                return True
    return False


def require_own(document: Document, name: str, service: Node, key: str) -> None:
    """Refuse where the service has no such key of its own and gets it, or may get it, from elsewhere."""
    line = document.line(service.start)
    if service.get(key) is None and merged(service, key):
        raise CannotEditInPlace(f"line {line}: the '{key}' of service '{name}' come through a merge key")
    if service.get("extends") is not None:
        raise CannotEditInPlace(f"line {line}: the '{key}' of service '{name}' may come through 'extends'")


def require_unshared(document: Document, name: str, node: Node, what: str) -> None:
    line = document.line(node.start)
    if node.kind == "alias":
        raise CannotEditInPlace(f"line {line}: {what} of service '{name}' come through the anchor '&{node.value}'")
    if document.is_shared(node):
        raise CannotEditInPlace(f"line {line}: {what} of service '{name}' are shared through '&{node.anchor}'")


def _extending(document: Document, name: str) -> Iterator[tuple[Node, Node]]:
    """The services that extend ``name`` of this very text; one that names a file needs to know where that is."""
    for key, service in document.services().pairs():
        if extended(service) == ("", name):
            yield key, service


def extended(service: Node) -> tuple[str, str] | None:
    """The file (empty: the same) and the name of the service that this one extends."""
    extends = service.resolved.get("extends")
    if extends is None:
        return None
    base = extends.resolved
    if base.kind != "mapping":
        return ("", base.value)
    file, name = base.get("file"), base.get("service")
    return (file.resolved.value if file is not None else "", name.resolved.value if name is not None else "")
