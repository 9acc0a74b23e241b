-- Who leads, how long it has been silent, and whether anybody holds the lock $1.
SELECT epoch, replica_id, beat_at, beat_at = 'epoch' AS is_released,
       greatest(extract(epoch FROM clock_timestamp() - beat_at), 0)::double precision AS silent_for,
       EXISTS (
           SELECT FROM pg_locks
           WHERE locktype = 'advisory' AND granted AND objsubid = 1
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
             AND (classid::bigint << 32 | objid::bigint) = $1
       ) AS is_locked
FROM leader
