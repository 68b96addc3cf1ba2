# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong while a tree is carried; all of it is a ``StatefulError``."""

from __future__ import annotations

from ansible_collections.selfhost.stateful.plugins.module_utils._errors import StatefulError


class TreeError(StatefulError):
    """The file tree could not be read or written."""


class NoSpace(TreeError):
    """A file system ran full; ``facts`` hold ``filesystem``, ``bytes_missing`` and ``bytes_free``."""


class NestedMount(TreeError):
    """Another file system is mounted inside the tree, and nobody said what to do with it."""


class NotOurs(TreeError):
    """A path that would be written to or removed holds something that we did not put there."""


class CopyDamaged(TreeError):
    """The copy differs from the original where it must not."""


class SourceChanging(TreeError):
    """The source was written to after it had been stopped."""


class CannotRename(TreeError):
    """The directory cannot be renamed to where it should go."""


class CannotClone(TreeError):
    """The file system refuses to share extents between the two places."""


class UnsupportedMetadata(TreeError):
    """The target cannot hold an attribute (ACL, extended attribute, owner) of the source."""
