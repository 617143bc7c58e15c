-- This period beside the one before it and the earlier ones; steps count back from 0.
WITH chosen AS (
    SELECT {keys}, CASE {steps} END AS step,
        sum(bytes_up) AS bytes_up, sum(bytes_down) AS bytes_down, sum({measure}) AS bytes
    FROM usage
    WHERE {where}
    GROUP BY ALL
),
per_key AS (
    SELECT {names},
        coalesce(sum(bytes_up) FILTER (step = 0), 0)::BIGINT AS bytes_up,
        coalesce(sum(bytes_down) FILTER (step = 0), 0)::BIGINT AS bytes_down,
        coalesce(sum(bytes_up) FILTER (step = 1), 0)::BIGINT AS previous_bytes_up,
        coalesce(sum(bytes_down) FILTER (step = 1), 0)::BIGINT AS previous_bytes_down,
        coalesce(sum(bytes) FILTER (step = 0), 0)::HUGEINT AS this,
        coalesce(sum(bytes) FILTER (step = 1), 0)::HUGEINT AS previous,
        -- A period in which a key has no row adds nothing, and counts.
        coalesce(sum(bytes) FILTER (step BETWEEN 1 AND {earlier}), 0)::HUGEINT AS total,
        coalesce(sum(bytes::HUGEINT * bytes::HUGEINT) FILTER (step BETWEEN 1 AND {earlier}), 0)::HUGEINT AS squares,
        count(*) FILTER (step = 0) > 0 AS is_now,
        count(*) FILTER (step = 1) > 0 AS was_before,
        count(*) FILTER (step >= 1) > 0 AS was_ever
    FROM chosen
    GROUP BY ALL
)
SELECT {names}, bytes_up, bytes_down, previous_bytes_up, previous_bytes_down,
    (this - previous)::BIGINT AS change_bytes,
    round(100.0 * (this - previous) / nullif(previous, 0), 2) AS change_percent,
    CASE WHEN {earlier} > 0 THEN (total // {divisor})::BIGINT END AS mean_bytes,
    -- (x - mean) / standard deviation of the sample, from sums that are exact.
    CASE WHEN {earlier} > 1 AND {earlier} * squares > total * total THEN
        round(({earlier} * this - total)::DOUBLE / {divisor}
            / sqrt(({earlier} * squares - total * total)::DOUBLE / ({divisor} * ({divisor} - 1))), 2)
    END AS z_score,
    CASE WHEN NOT is_now THEN 'vanished' WHEN NOT was_ever THEN 'new' ELSE 'known' END AS state
FROM per_key
WHERE is_now OR was_before
