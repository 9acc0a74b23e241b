-- Histograms whose bounds differ: the sum has the bounds that all of them have. No count is ever put under a bound it may
-- not belong to, so a quantile of the sum is as coarse as the coarsest of its parts, and never wrong for it.

CREATE TYPE latency_histogram AS (bounds_ms double precision[], counts double precision[]);

-- The counts of a histogram by some of its bounds.
CREATE FUNCTION counts_coarsened(bounds double precision[], counts double precision[], kept double precision[])
RETURNS double precision[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT array_agg(count ORDER BY place)
    FROM (
        SELECT p.place, coalesce(sum(c.count), 0) AS count
        FROM generate_series(1, cardinality(kept) + 1) AS p (place)
        LEFT JOIN unnest(counts) WITH ORDINALITY AS c (count, i)
               ON (c.i > cardinality(bounds) OR p.place > cardinality(kept) OR bounds[c.i] <= kept[p.place])
              AND (p.place = 1 OR (c.i > cardinality(bounds)) OR bounds[c.i] > kept[p.place - 1])
              AND (c.i <= cardinality(bounds) OR p.place > cardinality(kept))
        GROUP BY p.place
    ) places
$$;

CREATE FUNCTION latency_add(total latency_histogram, bounds double precision[], counts double precision[])
RETURNS latency_histogram
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
DECLARE
    common double precision[];
BEGIN
    IF counts IS NULL OR cardinality(counts) = 0 THEN
        RETURN total;
    END IF;
    bounds := coalesce(bounds, '{}');
    IF total IS NULL OR total.counts IS NULL THEN
        RETURN ROW(bounds, counts)::latency_histogram;
    END IF;
    IF total.bounds_ms = bounds THEN
        RETURN ROW(bounds, counts_add(total.counts, counts))::latency_histogram;
    END IF;
    SELECT coalesce(array_agg(b ORDER BY b), '{}') INTO common FROM unnest(total.bounds_ms) AS b WHERE b = ANY (bounds);
    RETURN ROW(common, counts_add(counts_coarsened(total.bounds_ms, total.counts, common),
                                  counts_coarsened(bounds, counts, common)))::latency_histogram;
END
$$;

CREATE FUNCTION latency_combine(a latency_histogram, b latency_histogram) RETURNS latency_histogram
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT latency_add(a, (b).bounds_ms, (b).counts) $$;

-- The sum of histograms of any layouts: latency_sum(latency_bounds_ms, latency_counts).
CREATE AGGREGATE latency_sum(bounds double precision[], counts double precision[]) (
    SFUNC = latency_add, STYPE = latency_histogram, COMBINEFUNC = latency_combine, PARALLEL = SAFE
);

-- The quantile of such a sum. Null without observations, or when its parts have no bound in common.
CREATE FUNCTION histogram_quantile(q double precision, histogram latency_histogram) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT histogram_quantile(q, (histogram).bounds_ms, (histogram).counts) $$;
