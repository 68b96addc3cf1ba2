#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# CVE-2024-4317, once.
set -o errexit -o nounset -o pipefail
[ "$(doguctl config --default false restricted_stat_visibility)" != true ] || exit 0
psql -qXU "$(doguctl config user)" -d postgres -c "SELECT 1 FROM pg_stats_ext LIMIT 0" >/dev/null
doguctl config restricted_stat_visibility true
