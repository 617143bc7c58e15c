-- How much of the period was measured, per node and slot and in microseconds. A slot seen by two
-- boots counts once; it is measured when one of them measured it and none shed anything.
WITH known AS (
    SELECT node, slot_start, slot_len_s, status, slot_start + to_seconds(slot_len_s) AS slot_end
    FROM slots
    WHERE {where}
),
edges AS (
    SELECT coalesce({since}, min(slot_start)) AS since, coalesce({until}, max(slot_end)) AS until
    FROM known
),
clipped AS (
    SELECT node, slot_start, status,
        greatest(0, epoch_us(least(slot_end, until)) - epoch_us(greatest(slot_start, since))) AS us
    FROM known, edges
),
per_slot AS (
    SELECT node, slot_start,
        max(us) FILTER (status <> 'DOWN') AS ran_us,
        max(us) FILTER (status = 'DOWN') AS down_us,
        bool_or(status IN ('OK', 'NODATA')) AND NOT bool_or(status = 'SKIPDATA') AS measured
    FROM clipped
    WHERE us > 0
    GROUP BY ALL
)
SELECT
    (count(DISTINCT node) * (SELECT epoch_us(until) - epoch_us(since) FROM edges))::BIGINT AS expected_us,
    coalesce(sum(ran_us) FILTER (measured), 0)::BIGINT AS measured_us,
    coalesce(sum(ran_us) FILTER (NOT measured), 0)::BIGINT AS shed_us,
    coalesce(sum(down_us) FILTER (ran_us IS NULL), 0)::BIGINT AS down_us
FROM per_slot
