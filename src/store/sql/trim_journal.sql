-- Everything before the last entry that starts an epoch and has only entries before it that end before the boundary ($2).
-- $1: the last entry that the chunks are known to cover.
DELETE FROM journal
WHERE seq < (
    SELECT max(seq) FROM journal
    WHERE starts_epoch
      AND seq <= $1
      AND seq <= (SELECT coalesce(min(seq), $1) FROM journal WHERE to_at >= $2)
)
