#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Waits for post-upgrade.sh, and not for ever: whoever looks finds a container that says why it ended.
set -o errexit -o nounset -o pipefail

limit=${UPGRADE_TIMEOUT:-3600}
while [ -e "$IMAGE_VOLUME/upgrading" ]; do
	if [ "$SECONDS" -ge "$limit" ]; then
		echo "an upgrade to $(<"$IMAGE_VOLUME/upgrading") was begun and not ended within $limit s:" \
			"run /resources/post-upgrade.sh FROM TO again; or, for the image before, remove $IMAGE_VOLUME/upgrading" >&2
		exit 75
	fi
	sleep 0.2
done
if [ -e "$IMAGE_VOLUME/restoring" ] && [ -s "$PGDATA/PG_VERSION" ]; then
	# The entrypoint would take what a restore has left half-way for a cluster that is whole.
	echo "$(<"$IMAGE_VOLUME/restoring") was not restored to its end: move $PGDATA to another place, and start again" >&2
	exit 75
fi
exec docker-entrypoint.sh "$@"
