-- Refused attempts per key.
WITH chosen AS (
    SELECT {keys}, "count" AS attempts, bytes_up, ts_first, ts_last
    FROM denied
    WHERE {where}
),
per_key AS (
    SELECT {names},
        sum(attempts)::BIGINT AS "count",
        sum(bytes_up)::BIGINT AS bytes_up,
        min(ts_first) AS ts_first,
        max(ts_last) AS ts_last
    FROM chosen
    GROUP BY ALL
)
SELECT * FROM per_key
