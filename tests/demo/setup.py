# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the demo brought to this machine, remembered so that ``clean`` takes away that and nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import Any

from tests.sandbox import engine as sandbox_engine
from tests.sandbox import recipes
from tests.sandbox._base import SandboxError
from tests.sandbox.engine import Engine
from tests.sandbox.server import IMAGE as SERVER_IMAGE
from tests.tools.tree import BUILD

from . import place
from .scene import HOME, Scene

FOLDER = BUILD / "demo"
RESULT = BUILD / "demo.json"
STATE = FOLDER / "state.json"
IMAGES = (*recipes.DEMO, "mastodon-base:latest")


def engine() -> Engine:
    """Return an engine that answers, and remember whether it was started for the demo."""
    found = sandbox_engine.find()
    if found is None:
        found = sandbox_engine.up()
        _remember(engine=True)
    return found


def place_for(found: Engine, *, server: bool) -> tuple[place.Place, str]:
    """Prepare the place of the demo; return it with the reason where it is not this machine."""
    reason = "it was asked for" if server else place.why_not_here(found)
    wanted = [*IMAGES, *([SERVER_IMAGE] if reason else [])]
    before = {key for key in wanted if _image_id(found, key)}
    try:
        return (place.in_a_server(found) if reason else place.here(found)), reason
    finally:
        _remember(images=[key for key in wanted if key not in before and _image_id(found, key)])


def clean() -> list[str]:
    """Remove all that the demo left; return what was removed."""
    state = _state()
    removed = []
    found = sandbox_engine.find()
    if found is None and (HOME.exists() or state["images"]):
        if not state["engine"]:
            raise SandboxError("The engine that the demo ran on does not answer: start it, then clean up again.")
        # Stopped, it still has the demo's containers.
        found = sandbox_engine.up()
    if found is not None:
        removed += place.remove_server(found)
        if not place.why_not_here(found):
            removed += Scene().remove()
        for key in state["images"]:
            ref = recipes.RECIPES[key].ref
            # Without force: an image that something else uses by now stays.
            if found.docker("rmi", ref, check=False):
                removed.append(f"image {ref}")
    if state["engine"]:
        removed += _remove_engine(found)
    if FOLDER.exists():
        shutil.rmtree(FOLDER)
        removed.append(str(FOLDER))
    if RESULT.exists():
        RESULT.unlink()
        removed.append(str(RESULT))
    return removed


def _remove_engine(found: Engine | None) -> list[str]:
    """Stop the engine that the demo started, and remove its directory unless others keep something in it."""
    if found is not None and not found.ours:
        return []
    if found is not None and found.docker("images", "-q", "--filter", "dangling=false"):
        return ["engine (stopped; the images of others stay in it)"] if sandbox_engine.down() else []
    return sandbox_engine.clean()


def _image_id(found: Engine, key: str) -> str:
    return found.docker("image", "inspect", "-f", "{{.Id}}", recipes.RECIPES[key].ref, check=False)


def _state() -> dict[str, Any]:
    if not STATE.exists():
        return {"engine": False, "images": []}
    return dict(json.loads(STATE.read_text()))


def _remember(*, engine: bool = False, images: Sequence[str] = ()) -> None:
    state = _state()
    FOLDER.mkdir(parents=True, exist_ok=True)
    merged = {"engine": state["engine"] or engine, "images": list(dict.fromkeys([*state["images"], *images]))}
    STATE.write_text(json.dumps(merged) + "\n")
