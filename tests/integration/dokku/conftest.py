# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of the modules for dokku share: a dokku of the sandbox's, and how a module is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.sandbox import engine as sandbox
from tests.sandbox.dokku import installation
from tests.sandbox.dokku.installation import Installation
from tests.support import module_run

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def dokku(shared_engine: sandbox.Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Return a dokku that is gone afterwards, with the images that were kept for a way back."""
    with installation.make(tmp_path_factory.mktemp("dokku"), engine=shared_engine) as made:
        yield made
    shared_engine.remove_kept_images(made.name(""))


@pytest.fixture(scope="module")
def ask(dokku: Installation) -> Ask:
    """Return how a module is run against that dokku; what it answers is returned, a failure too."""

    def run(module: str, *, check: bool = False, **options: Any) -> dict[str, Any]:
        known = {"dokku_program": [str(dokku.program)], "docker_host": dokku.engine.host}
        process = module_run.start(f"dokku_{module}", {**known, **options}, check=check)
        return module_run.answer_of(process)

    return run
