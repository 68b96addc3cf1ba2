#!/usr/bin/env bash
# Copyright (c) 2026, the selfhost.stateful contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# A migration: idempotent, with a mark that is set last.
set -o errexit -o nounset -o pipefail

if [ "$(/resources/mark.sh read 02-add-notes)" = "done" ]; then
	exit 0
fi
psql -Xq -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d postgres <<'SQL'
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS notes (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text text NOT NULL);
SQL
/resources/mark.sh set 02-add-notes
