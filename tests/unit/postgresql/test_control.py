# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError
from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql import control
from tests.unit.postgresql.control_file import (
    CHECKPOINT_TIME,
    IDENTIFIER,
    MODIFIED,
    XID,
    control_bytes,
    make_cluster,
)


def test_the_checksum_is_castagnoli() -> None:
    assert control.crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize("version", control.KNOWN_VERSIONS)
@pytest.mark.parametrize("size", [228, 240, 264, 288, 292, 296])
def test_every_layout_is_read_whatever_its_size(version: int, size: int) -> None:
    found = control.parse_control(control_bytes(version, 6, size=size))
    assert found == control.ControlData(
        system_identifier=IDENTIFIER,
        control_version=version,
        catalog_version=202209061,
        state="in production",
        modified_at=datetime.fromtimestamp(MODIFIED, timezone.utc),
        checkpoint_lsn="16/B374D848",
        redo_lsn="16/B374D810",
        timeline=5,
        next_xid=XID,
        checkpoint_time=datetime.fromtimestamp(CHECKPOINT_TIME, timezone.utc),
    )


def test_the_checksum_of_9_4_is_known() -> None:
    assert control.parse_control(control_bytes(942, 1, legacy=True)).shut_down


def test_the_old_checksum_is_refused_for_a_later_release() -> None:
    with pytest.raises(control.TornControlFile, match="checksum"):
        control.parse_control(control_bytes(960, 1, legacy=True))


@pytest.mark.parametrize("position", [0, 8, 16, 33, 47, 100, 200, 255, 287, 288, 291])
def test_a_flipped_byte_is_found(position: int) -> None:
    raw = bytearray(control_bytes(1300, 1))
    raw[position] ^= 0x40
    with pytest.raises((control.TornControlFile, ValueError)):
        control.parse_control(bytes(raw))


def test_something_behind_the_struct_is_found() -> None:
    raw = bytearray(control_bytes(1300, 1))
    raw[400] = 1
    with pytest.raises(control.TornControlFile):
        control.parse_control(bytes(raw))


@pytest.mark.parametrize("raw", [b"", b"\0" * 12, control_bytes(1300, 1)[:200]])
def test_a_file_cut_short_is_found(raw: bytes) -> None:
    with pytest.raises(control.TornControlFile):
        control.parse_control(raw)


def test_an_unknown_version_and_the_other_byte_order_are_named() -> None:
    with pytest.raises(ValueError, match="version 4711"):
        control.parse_control(control_bytes(4711, 1))
    swapped = int.from_bytes((1300).to_bytes(4, "little"), "big")
    with pytest.raises(ValueError, match="other byte order"):
        control.parse_control(control_bytes(swapped, 1))


@pytest.mark.parametrize("number,state", list(enumerate(control.STATES)))
def test_states_have_the_words_of_pg_controldata(number: int, state: str) -> None:
    found = control.parse_control(control_bytes(1800, number))
    assert found.state == state
    assert found.shut_down is (state == "shut down")


def test_a_torn_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn = bytearray(control_bytes(1300, 1))
    torn[60] ^= 0xFF
    reads = iter([bytes(torn), bytes(torn), control_bytes(1300, 1)])
    pauses: list[float] = []
    monkeypatch.setattr(control, "_read", lambda _path: next(reads))
    monkeypatch.setattr("time.sleep", pauses.append)
    assert control.read_control(str(tmp_path)).system_identifier == IDENTIFIER
    assert len(pauses) == 2


def test_a_damaged_file_ends_in_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cluster(tmp_path / "data")
    file = tmp_path / "data" / "global" / "pg_control"
    file.write_bytes(b"\x01" + file.read_bytes()[1:])
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    with pytest.raises(StatefulError, match="checksum does not match"):
        control.read_control(str(tmp_path / "data"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StatefulError, match="pg_control cannot be read"):
        control.read_control(str(tmp_path))


@pytest.mark.parametrize("text,major", [("15\n", "15"), ("9.6\n", "9.6"), ("18", "18")])
def test_major_version(tmp_path: Path, text: str, major: str) -> None:
    (tmp_path / "PG_VERSION").write_text(text)
    assert control.major_of(str(tmp_path)) == major


@pytest.mark.parametrize("text", ["", "fifteen", "9.6.1"])
def test_no_major_version(tmp_path: Path, text: str) -> None:
    (tmp_path / "PG_VERSION").write_text(text)
    with pytest.raises(StatefulError, match="does not hold a version"):
        control.major_of(str(tmp_path))


@pytest.mark.parametrize(
    "text,number", [("0/0", 0), ("16/B374D848", 0x16_B374D848), ("FFFFFFFF/1", 0xFFFFFFFF_00000001)]
)
def test_lsn(text: str, number: int) -> None:
    assert control.parse_lsn(text) == number
    assert control.format_lsn(number) == text
