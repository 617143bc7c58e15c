-- How many sessions there are of each size, and all of them.
WITH chosen AS (
    SELECT {keys}bytes_up + bytes_down AS bytes, duration_us, {bucket} AS bucket
    FROM ({sessions})
),
per_bucket AS (
    SELECT {names}bucket, grouping(bucket) = 1 AS is_all,
        count(*) AS sessions,
        sum(bytes)::BIGINT AS bytes_total,
        quantile_disc(bytes, [0.5, 0.9, 0.99]) AS size,
        quantile_disc(duration_us, [0.5, 0.9, 0.99]) AS duration
    FROM chosen
    GROUP BY GROUPING SETS (({names}bucket), ({only_names}))
    HAVING count(*) > 0
)
SELECT {names}{bounds}[bucket + 1] AS {of}from{unit}, {bounds}[bucket + 2] AS {of}below{unit}, sessions,
    round(100.0 * sessions / sum(sessions) FILTER (NOT is_all) OVER same_key, 2) AS share_percent,
    bytes_total,
    round(100.0 * bytes_total::DOUBLE / nullif(sum(bytes_total) FILTER (NOT is_all) OVER same_key, 0), 2)
        AS bytes_percent,
    size[1] AS bytes_p50, size[2] AS bytes_p90, size[3] AS bytes_p99,
    duration[1] AS duration_p50_us, duration[2] AS duration_p90_us, duration[3] AS duration_p99_us
FROM per_bucket
WINDOW same_key AS ({partition})
