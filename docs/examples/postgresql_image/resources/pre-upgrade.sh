#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# pre-upgrade.sh FROM TO, in the old container, while its server runs and nobody else writes.
set -o errexit -o nounset -o pipefail

from=$1 to=$2
if [ "$from" = "$to" ]; then
	exit 0
fi
if [ "${from%%.*}" != "${to%%.*}" ]; then
	# Named once it is whole: half of a dump is never taken for one.
	pg_dumpall -U "${POSTGRES_USER:-postgres}" --clean --if-exists -f "$IMAGE_VOLUME/dump.sql.part"
	tail -n 5 "$IMAGE_VOLUME/dump.sql.part" | grep -q '^-- PostgreSQL database cluster dump complete'
	sync "$IMAGE_VOLUME/dump.sql.part"
	mv "$IMAGE_VOLUME/dump.sql.part" "$IMAGE_VOLUME/dump.sql"
fi
echo "$to" >"$IMAGE_VOLUME/upgrading"
