# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The images of Concurrent's stand-in: one program, and a version each."""

from __future__ import annotations

from .recipe import Recipe

VERSIONS = ("v0.2.5", "v0.3.0", "v0.4.0", "v1.2.0", "v1.3.0", "v1.3.3", "v1.4.0")

# The program has no suffix there: a concurrent.py beside a running one would be taken for Python's own package.
_BASE = Recipe(
    name="concurrent-base",
    tag="latest",
    # Its userland, with Python and the clients of both stores, is all that this needs.
    parent="mastodon-base:latest",
    files=("concurrent.py",),
    contract="""\
USER root
WORKDIR /
COPY --chmod=755 concurrent.py /usr/local/lib/concurrent/program
RUN sed -i '1i #!/usr/bin/python3' /usr/local/lib/concurrent/program \\
 && cd /usr/local/bin && for name in ccapi ccadmin ccgateway ccidle; do ln -s ../lib/concurrent/program $name; done
# What is unpacked alone is not compiled: two seconds at each start.
RUN ccadmin > /dev/null
EXPOSE 8000
CMD ["ccapi"]
""",
)


def _version(version: str) -> Recipe:
    return Recipe(
        name="concurrent",
        tag=version,
        parent=_BASE.key,
        contract=f"LABEL org.opencontainers.image.version={version}\nENV CONCURRENT_VERSION={version}\n",
    )


CONCURRENT = (_BASE, *(_version(version) for version in VERSIONS))
