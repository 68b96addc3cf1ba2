# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The copy of a directory has its name only once it is seen to be the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._concurrent import reload
from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError


def test_a_copy_is_whole_and_one_that_is_not_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "redis"
    source.mkdir()
    (source / "dump.rdb").write_bytes(b"all")
    reload.copy_tree(str(source), str(tmp_path / "copy"))

    def half(argv: Sequence[str], _limit: float) -> tuple[int, str, str]:
        Path(argv[-1]).mkdir()
        (Path(argv[-1]) / "dump.rdb").write_bytes(b"al")
        return 0, "", ""

    monkeypatch.setattr(reload, "run", half)
    with pytest.raises(StatefulError, match=r"differs from it: .*dump\.rdb"):
        reload.copy_tree(str(source), str(tmp_path / "second"))

    assert (tmp_path / "copy/dump.rdb").read_bytes() == b"all"
    assert not (tmp_path / "second").exists()
