WITH part AS (
    SELECT services, operations
    FROM trace_part
    WHERE start_at BETWEEN $1 AND $2 AND services @> $3::text[]
    ORDER BY start_at DESC
    LIMIT $4
), alone AS (
    SELECT EXISTS (SELECT FROM part WHERE cardinality(services) = 1) AS yes
)
SELECT DISTINCT o COLLATE "C"
FROM part, alone, unnest(operations) AS o
WHERE NOT alone.yes OR cardinality(services) = 1
ORDER BY 1
