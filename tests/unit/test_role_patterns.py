# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The expressions by which ``mastodon_storage`` reads what engines, compose and builds say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[2] / "roles/mastodon_storage"


class Variables(yaml.SafeLoader):
    """Reads YAML as Ansible does: with words that are no templates."""


Variables.add_constructor("!unsafe", Variables.construct_scalar)
PATTERNS = yaml.load((ROLE / "vars/main.yml").read_text(encoding="utf-8"), Variables)

PORTS = {
    "Error response from daemon: driver failed programming external connectivity on endpoint live-web-1 (8c0f): "
    "Bind for 127.0.0.1:3000 failed: port is already allocated": "3000",
    "Bind for 0.0.0.0:3000 failed: port is already allocated": "3000",
    "Bind for :::3000 failed: port is already allocated": "3000",
    "failed to bind host port for 0.0.0.0:8080:172.18.0.2:3000/tcp: address already in use": "8080",
    "failed to bind host port 127.0.0.1:8080/tcp: address already in use": "8080",
    "Error starting userland proxy: listen tcp4 0.0.0.0:80: bind: address already in use": "80",
    "2026-11-20T12:30:05Z listen tcp6 [::1]:3000: bind: address already in use": "3000",
    "Ports are not available: exposing port TCP 0.0.0.0:443 -> 127.0.0.1:0: listen tcp 0.0.0.0:443: bind: "
    "address already in use": "443",
    "Error: listen EADDRINUSE: address already in use :::3000": "3000",
    "Error: listen EADDRINUSE: address already in use 127.0.0.1:4000": "4000",
    "Error: listen EADDRINUSE :::3000": "3000",
    'Address already in use - bind(2) for "127.0.0.1" port 3000 (Errno::EADDRINUSE)': "3000",
    "Address already in use - bind(2) for 127.0.0.1:3000 (Errno::EADDRINUSE)": "3000",
}
NAMES = {
    'Conflict. The container name "/live-web-1" is already in use by container "8c0f".': "live-web-1",
    'ERROR: for web  Cannot create container for service web: Conflict. The container name "/web" is already in use by '
    'container "8c0f"': "web",
    "the container name live_web_1 is already in use": "live_web_1",
}
NAMELESS = "OSError: [Errno 98] Address already in use"
OTHERS = (
    'ERROR: failed to solve: process "/bin/sh -c bundle install" did not complete successfully: exit code: 5',
    "pull access denied for example/mastodon, repository does not exist",
    "no space left on device",
)


@pytest.mark.parametrize("words, port", PORTS.items())
def test_the_port_in_the_way_is_read(words: str, port: str) -> None:
    assert re.search(PATTERNS["mastodon_storage_conflict"], words)
    assert re.findall(PATTERNS["mastodon_storage_port_words"], f"#12 ERROR\n{words}\n")[0] == port
    assert re.findall(PATTERNS["mastodon_storage_name_words"], words) == []


@pytest.mark.parametrize("words, name", NAMES.items())
def test_the_container_in_the_way_is_read(words: str, name: str) -> None:
    assert re.search(PATTERNS["mastodon_storage_conflict"], words)
    assert re.findall(PATTERNS["mastodon_storage_name_words"], words)[0] == name
    assert re.findall(PATTERNS["mastodon_storage_port_words"], words) == []


def test_what_names_neither_is_a_conflict_all_the_same() -> None:
    assert re.search(PATTERNS["mastodon_storage_conflict"], NAMELESS)
    for kind in ("port", "name"):
        assert re.findall(PATTERNS[f"mastodon_storage_{kind}_words"], NAMELESS) == []


@pytest.mark.parametrize("words", OTHERS)
def test_any_other_failure_of_a_build_is_none(words: str) -> None:
    assert not re.search(PATTERNS["mastodon_storage_conflict"], words)


@pytest.mark.parametrize(
    "mount, anonymous",
    [
        (f'{{"Type":"volume","Name":"{"0a" * 32}","Source":"/v","Destination":"/data","RW":true}}', True),
        ('{"Type":"volume","Name":"live_data","Source":"/v","Destination":"/data","RW":true}', False),
        (f'{{"Type":"bind","Source":"/srv/{"0a" * 32}","Destination":"/data","RW":true}}', False),
    ],
)
def test_an_anonymous_volume_is_told_from_the_others(mount: str, anonymous: bool) -> None:
    assert bool(re.search(PATTERNS["mastodon_storage_anonymous_volume"], f'["web", [{mount}]]')) is anonymous
