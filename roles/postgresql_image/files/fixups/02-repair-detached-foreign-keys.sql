-- Copyright (c) 2026, the selfhost.stateful contributors
-- GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
-- SPDX-License-Identifier: GPL-3.0-or-later
--
-- Foreign keys that an ATTACH or DETACH PARTITION left without some of their triggers are enforced again.
-- https://www.postgresql.org/docs/release/17.1/ (also 16.5, 15.9, 14.14 and 13.17)
--
-- A table that was detached from a partitioned one, and refers to a partitioned table, lacks the entries of a table that
-- stands alone: rows without a counterpart can come in. Dropping the constraint and adding it again makes them anew, and
-- reads every row of the table. Where rows without a counterpart are there already, nothing is changed and they are named.
-- A key of a partitioned table to itself is left alone: the catalog does not tell a whole one from one that is not.
--
-- selfhost.stateful:
--   lock_timeout: 30
--   done_when: >-
--     SELECT current_setting('server_version_num')::int NOT BETWEEN 120000 AND 179999 OR NOT EXISTS
--     (SELECT 1 FROM pg_catalog.pg_constraint c WHERE contype = 'f' AND conparentid = 0 AND conrelid <> confrelid AND
--     (SELECT count(*) FROM pg_catalog.pg_constraint d WHERE d.conparentid = c.oid) <>
--     (SELECT count(*) FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = i.inhparent
--     WHERE i.inhparent IN (c.conrelid, c.confrelid)))

DO $fixup$
DECLARE
  broken record;
  remark text;
  missing text;
BEGIN
  -- 18 keeps the entries of a foreign key in another way, and has never had the fault.
  IF current_setting('server_version_num')::int NOT BETWEEN 120000 AND 179999 THEN
    RETURN;
  END IF;
  -- Names are to be written with their schema, whatever the role's search_path is.
  PERFORM set_config('search_path', 'pg_catalog', true);
  FOR broken IN
    SELECT c.oid, c.conrelid::regclass AS relation, c.confrelid::regclass AS refers_to, c.conname,
           pg_get_constraintdef(c.oid) AS definition, c.conrelid
    FROM pg_constraint c
    WHERE contype = 'f' AND conparentid = 0 AND conrelid <> confrelid AND
          (SELECT count(*) FROM pg_constraint d WHERE d.conparentid = c.oid) <>
          (SELECT count(*) FROM pg_inherits i JOIN pg_partitioned_table p ON p.partrelid = i.inhparent
            WHERE i.inhparent IN (c.conrelid, c.confrelid))
    ORDER BY 2, 4
  LOOP
    remark := obj_description(broken.oid, 'pg_constraint');
    RAISE NOTICE 'foreign key % of %: made anew', broken.conname, broken.relation;
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', broken.relation, broken.conname);
    BEGIN
      EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I %s', broken.relation, broken.conname, broken.definition);
    EXCEPTION WHEN foreign_key_violation THEN
      GET STACKED DIAGNOSTICS missing = PG_EXCEPTION_DETAIL;
      RAISE EXCEPTION '% has rows without a counterpart in %, which came in while its foreign key % was not enforced: %',
        broken.relation, broken.refers_to, broken.conname, missing
        USING ERRCODE = 'foreign_key_violation',
              HINT = 'Remove or complete those rows, or add what they refer to, and run this again. Nothing was changed.';
    END;
    IF remark IS NOT NULL THEN
      EXECUTE format('COMMENT ON CONSTRAINT %I ON %s IS %L', broken.conname, broken.relation, remark);
    END IF;
  END LOOP;
END
$fixup$;
