l.labels @> $1
AND ($2
     OR EXISTS (SELECT FROM chunk_raw c
                WHERE c.label_set_id = l.label_set_id AND c.from_at BETWEEN $3 AND $5 AND c.to_at >= $4)
     OR EXISTS (SELECT FROM chunk_5m c
                WHERE c.label_set_id = l.label_set_id AND c.from_at BETWEEN $3 AND $5 AND c.to_at >= $4))
AND ($6::bigint[] IS NULL
     OR EXISTS (SELECT FROM series s
                WHERE s.label_set_id = l.label_set_id AND s.metric_id = ANY($6) AND s.last_day >= $7))
