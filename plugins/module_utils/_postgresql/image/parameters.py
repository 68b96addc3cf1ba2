# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which settings of a server another image does not know, and where each was set. Pure."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._postgresql.image.model import (
    CandidateImage,
    Setting,
    Subject,
)

FROM_OUTSIDE = ("command line", "environment variable")
FROM_FILE = ("configuration file",)
STORED = ("database", "user", "database user", "global")
BY_ITSELF = ("config_file", "data_directory", "hba_file", "ident_file", "external_pid_file")
# Names that a newer server takes for what it calls otherwise, and does not list.
STILL_TAKEN = {"force_parallel_mode": 160000, "ssl_ecdh_curve": 180000}


def unknown(subject: Subject, candidate: CandidateImage) -> list[Setting]:
    """Return the settings that the candidate does not know."""
    return [setting for setting in subject.inventory.settings if removed(setting.name, subject, candidate)]


def removed(name: str, subject: Subject, candidate: CandidateImage) -> bool:
    """Tell whether the server that runs knows a setting and the candidate does not.

    Neither lists those for developers, so of a name that none lists nothing is said.
    """
    known = {parameter.lower() for parameter in candidate.parameters}
    if not known or name.lower() in known:
        return False
    if candidate.server_version_num >= STILL_TAKEN.get(name.lower(), candidate.server_version_num + 1):
        return False
    return name.lower() in {parameter.lower() for parameter in subject.image.parameters}


def is_carried(setting: Setting, subject: Subject) -> bool:
    """Tell whether a setting is in a file of the data directory, which is taken along."""
    return setting.source in FROM_FILE and not is_in_a_file_of_others(setting, subject)


def is_in_a_file_of_others(setting: Setting, subject: Subject) -> bool:
    """Tell whether a setting is in a file outside the data directory, which both servers read as it is."""
    inside = setting.place.startswith(subject.cluster.data_directory.rstrip("/") + "/")
    return setting.source in FROM_FILE and bool(setting.place) and not inside


def is_told_by_hand(setting: Setting) -> bool:
    """Tell whether the service's command sets it; what a server is told of its own files is no matter of a value."""
    return setting.source == "command line" and setting.name not in BY_ITSELF
