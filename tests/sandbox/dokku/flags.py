# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The flags of the plugin's subcommands, short and long, each with a value but ``-n``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .words import Fail

# The documentation gives it one of these, which changes nothing.
SWITCH_VALUES = ("true", "false")


def parse(args: Sequence[str], known: Mapping[str, str], switches: Sequence[str] = ()) -> dict[str, str]:
    """Return the values by their long names; only the flags that are ``known`` may be given."""
    found: dict[str, str] = {}
    words = list(args)
    while words:
        word = words.pop(0)
        name = known.get(word[1:], "") if len(word) == 2 else word.removeprefix("--")
        if not word.startswith("-") or name not in known.values():
            raise Fail(f"illegal option -- {word.lstrip('-')}")
        if name in switches:
            found[name] = "true"
            if words[:1] and words[0] in SWITCH_VALUES:
                words.pop(0)
        elif not words:
            raise Fail(f"option requires an argument -- {word.lstrip('-')}")
        else:
            found[name] = words.pop(0)
    return found
