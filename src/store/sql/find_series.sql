SELECT metric_id, label_set_id, le
FROM series
WHERE metric_id = ANY($1) AND label_set_id = ANY($2) AND last_day >= $3
