# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put a service's image into a compose file's text; all that is not concerned stays byte for byte."""

from __future__ import annotations

import re

from ansible_collections.selfhost.stateful.plugins.module_utils._compose.document import Document, Node, parse
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_entries import quoted
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_hunks import Edited, edited
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_service import (
    find_service,
    require_own,
    require_unshared,
)
from ansible_collections.selfhost.stateful.plugins.module_utils._compose.edit_text import apply, put_value
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import InvalidInput, StatefulError

_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+\[\]-]*\Z")


def set_image(text: str, *, service: str, image: str) -> Edited:
    """Make ``image`` the image of a service that already names one.

    :raises CannotEditInPlace: when the image comes from elsewhere and an override file is the way.
    :raises InvalidInput: when the file or the request cannot be worked with.
    """
    check_image(service, image)
    document = parse(text)
    mapping = find_service(document, service)[1]
    current = mapping.get("image")
    if current is None:
        require_own(document, service, mapping, "image")
        reason = "is built here and names no image" if mapping.get("build") is not None else "names no image"
        raise InvalidInput(f"line {document.line(mapping.start)}: the service '{service}' {reason}")
    require_unshared(document, service, current, "the 'image'")
    if current.kind != "scalar" or current.anchor is not None or current.tag is not None:
        raise InvalidInput(f"line {document.line(current.start)}: the 'image' of service '{service}' is no plain name")
    if current.value == image:
        return edited(text, text, "")
    style = current.style if current.style in ("'", '"') else '"' if mapping.flow else None
    after = apply(text, [put_value(document, current, quoted(image, style))])
    if _rest(parse(after), service) != _rest(document, service) or _image(parse(after), service) != image:
        raise StatefulError(f"the edit of the image of service '{service}' could not be proved, so it was not made")
    return edited(text, after, "replaced")


def check_image(service: str, image: str) -> None:
    if not _IMAGE.match(image):
        raise InvalidInput(f"{image!r} is no image name for service '{service}'")


def _image(document: Document, service: str) -> str:
    node = find_service(document, service)[1].get("image")
    return node.value if node is not None else ""


def _rest(document: Document, service: str) -> object:
    def without_image(node: Node) -> object:
        return {key.value: value.data() for key, value in node.pairs() if key.value != "image"}

    others = {key.value: value.data() for key, value in document.services().pairs() if key.value != service}
    top = {key.value: value.data() for key, value in document.root.pairs() if key.value != "services"}
    return top, others, without_image(find_service(document, service)[1])
