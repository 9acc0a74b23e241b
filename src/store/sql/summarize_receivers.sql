SELECT receiver, integration, kind,
       count(*) FILTER (WHERE sent_at IS NULL AND given_up_at IS NULL) AS waiting,
       count(*) FILTER (WHERE sent_at IS NULL AND given_up_at IS NOT NULL) AS failed,
       count(*) FILTER (WHERE sent_at IS NOT NULL) AS sent,
       max(sent_at) AS last_sent_at,
       max(given_up_at) AS last_failed_at,
       left((array_agg(last_error ORDER BY given_up_at DESC) FILTER (WHERE given_up_at IS NOT NULL))[1], 2000) AS last_error,
       -- Of those that were made again by hand the wait says nothing about the receiver.
       (percentile_disc(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM sent_at - created_at))
           FILTER (WHERE attempts = 0 AND sent_at IS NOT NULL))::double precision AS latency_p50_seconds,
       (percentile_disc(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM sent_at - created_at))
           FILTER (WHERE attempts = 0 AND sent_at IS NOT NULL))::double precision AS latency_p95_seconds
FROM notification
WHERE created_at >= $1 OR (sent_at IS NULL AND given_up_at IS NULL)
GROUP BY receiver, integration, kind
ORDER BY receiver, kind, integration
