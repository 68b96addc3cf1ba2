# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images of the sandbox: pulled where a registry answers, else built from packages; cached by recipe."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from . import apt
from ._base import IMAGE_PREFIX, LABEL, SandboxError, cache_dir, locked, run
from .engine import Engine, up
from .recipe import ROOTFS, Recipe
from .recipes import RECIPES, digest

RECIPE_LABEL = f"{LABEL}.recipe"
HOW_LABEL = f"{LABEL}.how"
WORKERS = 2


@dataclass(frozen=True)
class Built:
    """An image that is there now, and how it came: ``cached``, ``pulled`` or ``built``."""

    ref: str
    how: str


def ensure(keys: Iterable[str], engine: Engine | None = None) -> list[Built]:
    """Make the images named by ``keys`` (such as ``postgres:17``) available, two at a time."""
    engine = engine or up()
    wanted = list(dict.fromkeys(keys))
    unknown = [key for key in wanted if key not in RECIPES]
    if unknown:
        raise SandboxError(f"no such image: {', '.join(unknown)}; there are {', '.join(RECIPES)}")
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(lambda key: _ensure_one(RECIPES[key], engine), wanted))


def ref(key: str, engine: Engine | None = None) -> str:
    """Return the reference of one image, which is built first where it has to be."""
    return ensure([key], engine)[0].ref


@contextlib.contextmanager
def derived(of: str, engine: Engine, folder: Path, *lines: str) -> Iterator[str]:
    """Build an image on one of ours, with what ``lines`` add, and remove it at the end; its id is a new one."""
    reference = f"{IMAGE_PREFIX}/built:{secrets.token_hex(4)}"
    build_on(of, engine, folder, reference, f"LABEL build={reference}", *lines)
    try:
        yield reference
    finally:
        engine.docker("rmi", "-f", reference, check=False)


def build_on(of: str, engine: Engine, folder: Path, reference: str, *lines: str) -> None:
    """Build an image on one of ours, and give it the name ``reference``, which another one may have had."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text("\n".join([f"FROM {ref(of, engine)}", *lines]))
    engine.docker("build", "-q", "-t", reference, str(folder))


def _ensure_one(recipe: Recipe, engine: Engine) -> Built:
    if _is_current(recipe, engine):
        return Built(recipe.ref, "cached")
    # The lock is per image: who comes second finds it built.
    with locked(cache_dir("locks") / f"{recipe.name}-{recipe.tag}.lock"):
        if _is_current(recipe, engine):
            return Built(recipe.ref, "cached")
        if recipe.pulled and _may_pull() and _pull(recipe, engine):
            return Built(recipe.ref, "pulled")
        if recipe.parent:
            _ensure_one(RECIPES[recipe.parent], engine)
            return _built(recipe, engine, f"FROM {RECIPES[recipe.parent].ref}\n{recipe.contract}", "built")
        return _build(recipe, engine)


def _is_current(recipe: Recipe, engine: Engine) -> bool:
    shown = engine.docker("image", "inspect", "-f", f'{{{{index .Config.Labels "{RECIPE_LABEL}"}}}}', recipe.ref,
                          check=False)  # fmt: skip
    return shown == digest(recipe)


def _may_pull() -> bool:
    return os.environ.get("SELFHOST_SANDBOX_IMAGES", "") != "build"


def _pull(recipe: Recipe, engine: Engine) -> bool:
    """Put our label on the image that a registry has; leave no foreign tag that was not there before."""
    source = os.environ.get("SELFHOST_SANDBOX_REGISTRY", "") + recipe.pulled
    was_there = bool(engine.docker("image", "inspect", "-f", "{{.Id}}", source, check=False))
    if not was_there:
        done = run([engine.client, "pull", "-q", source], check=False, env=engine.env)
        if done.returncode != 0:
            return False
    try:
        _built(recipe, engine, f"FROM {source}\n{recipe.pulled_lines}", "pulled")
    finally:
        if not was_there:
            engine.docker("rmi", source, check=False)
    return True


def _build(recipe: Recipe, engine: Engine) -> Built:
    if not apt.can_install():
        raise SandboxError(
            f"{recipe.ref} can neither be pulled (no registry answers) nor built (that needs root on Debian or Ubuntu)."
        )
    with tempfile.TemporaryDirectory(prefix="image-", dir=cache_dir()) as folder:
        archive = Path(folder, "rootfs.tar")
        make_rootfs(recipe.suite, recipe.packages, recipe.hooks, archive, variant=recipe.variant)
        return _built(recipe, engine, f"FROM scratch\nADD rootfs.tar /\n{recipe.contract}", "built", Path(folder))


def make_rootfs(
    suite: str, packages: Iterable[str], hooks: Iterable[str], target: Path, *, variant: str = "extract"
) -> None:
    """Write the file system of ``packages`` from ``suite`` to ``target``, an archive or a folder.

    Of several suites, parted by blanks, the first decides the release and each package is the newest there is.
    """
    mmdebstrap = apt.ensure_program("mmdebstrap", "mmdebstrap")
    suite, *further = suite.split()
    key = apt.keyring()
    # Unpacking alone never reaches the customize step.
    step = "extract" if variant == "extract" else "customize"
    run(
        [
            mmdebstrap, "--quiet", "--mode=root", f"--variant={variant}",
            # The next release's index may be past its date; it is signed all the same.
            "--aptopt=Acquire::Check-Valid-Until false",
            *([f"--keyring={key}"] if key else []),
            f"--include={','.join(packages)}",
            *(f"--{step}-hook={hook}" for hook in hooks),
            suite, str(target), apt.mirror(), *(f"deb {apt.archive(name)} {name} main" for name in further),
        ],
        # The caller's own TMPDIR may be small, or mounted noexec.
        env={"TMPDIR": str(cache_dir("tmp"))},
    )  # fmt: skip


def _built(recipe: Recipe, engine: Engine, dockerfile: str, how: str, folder: Path | None = None) -> Built:
    labels = {LABEL: "1", RECIPE_LABEL: digest(recipe), HOW_LABEL: how}
    with tempfile.TemporaryDirectory(prefix="context-", dir=cache_dir()) as fresh:
        context = folder or Path(fresh)
        for name in recipe.files:
            shutil.copy(ROOTFS / name, context / name)
        (context / "Dockerfile").write_text(dockerfile)
        before = engine.docker("image", "inspect", "-f", "{{.Id}}", recipe.ref, check=False)
        flags = [flag for key, value in labels.items() for flag in ("--label", f"{key}={value}")]
        engine.docker("build", "--quiet", "--pull=false", *flags, "-t", recipe.ref, str(context))
    if before:
        # Without force: an image that a container still uses stays, as does one that is tagged elsewhere.
        engine.docker("rmi", before, check=False)
    return Built(recipe.ref, how)
