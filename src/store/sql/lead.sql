-- Makes $1 the leader. Waits until no transaction of the leader before holds its row.
INSERT INTO leader (epoch, replica_id, beat_at) VALUES (1, $1, clock_timestamp())
ON CONFLICT (only_row) DO UPDATE
SET epoch = leader.epoch + 1, replica_id = excluded.replica_id, beat_at = clock_timestamp()
RETURNING epoch
