-- Copyright (c) 2026, the selfhost.stateful contributors
-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
--
-- Who may read a table's extended statistics: its owner, and nobody else (CVE-2024-4317).
-- https://www.postgresql.org/support/security/CVE-2024-4317/
--
-- 14 to 16 show in pg_stats_ext and pg_stats_ext_exprs values of columns that the reader may not read. 14.12, 15.7 and
-- 16.3 make new clusters without that; a cluster that an older minor made keeps its views, whatever runs on it today.
-- It runs in every database, the templates included: a view belongs to its database.
--
-- selfhost.stateful:
--   lock_timeout: 30
--   done_when: >-
--     SELECT current_setting('server_version_num')::int NOT BETWEEN 140000 AND 169999 OR
--     (SELECT count(*) FROM unnest(ARRAY['pg_stats_ext', 'pg_stats_ext_exprs']) AS name
--       WHERE pg_get_viewdef(to_regclass('pg_catalog.' || name)) ~ 'pg_has_role\(c\.relowner') = 2

DO $fixup$
DECLARE
  shown text;
  -- What upstream's own fix-CVE-2024-4317.sql asks in both views.
  owned constant text := ' WHERE pg_has_role(c.relowner, ''USAGE'')'
    ' AND (c.relrowsecurity = false OR NOT row_security_active(c.oid))';
  name text;
BEGIN
  IF current_setting('server_version_num')::int NOT BETWEEN 140000 AND 169999 THEN
    RETURN;
  END IF;
  PERFORM set_config('search_path', 'pg_catalog', true);
  FOREACH name IN ARRAY ARRAY['pg_stats_ext', 'pg_stats_ext_exprs'] LOOP
    shown := rtrim(pg_get_viewdef(to_regclass('pg_catalog.' || name)), E'; \n');
    CONTINUE WHEN shown ~ 'pg_has_role\(c\.relowner';
    -- The last condition of the outermost query is what changes; the columns stay as this minor has them.
    IF name = 'pg_stats_ext' THEN
      IF shown !~ 'WHERE \(+\s*NOT \(+\s*EXISTS \(.*has_column_privilege.*row_security_active\(c\.oid\)' THEN
        RAISE EXCEPTION 'pg_catalog.% is not as any minor made it: %', name, shown
          USING HINT = 'Somebody changed it. Compare it with fix-CVE-2024-4317.sql of your server, and run that by hand.';
      END IF;
      shown := regexp_replace(shown, 'WHERE \(+\s*NOT \(+\s*EXISTS \(.*$', '');
    ELSIF shown ~ '\)\) stat\(expr\) ON \(\(stat\.expr IS NOT NULL\)\)\)$'
       OR shown ~ 'ON \(\(stat\.expr IS NOT NULL\)\)\)$' THEN
      NULL;
    ELSE
      RAISE EXCEPTION 'pg_catalog.% is not as any minor made it: %', name, shown
        USING HINT = 'Somebody changed it. Compare it with fix-CVE-2024-4317.sql of your server, and run that by hand.';
    END IF;
    EXECUTE format('CREATE OR REPLACE VIEW pg_catalog.%I WITH (security_barrier) AS %s%s', name, shown, owned);
  END LOOP;
END
$fixup$;
