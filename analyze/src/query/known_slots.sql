-- How many slots of the longest length there are from the first to the last moment, and of how many
-- of them something is known, by any node; the length of the slots in seconds.
WITH edges AS (
    SELECT coalesce({since}, min(slot_start)) AS since,
        coalesce({until}, max(slot_start + to_seconds(slot_len_s))) AS until,
        max(slot_len_s) FILTER (status <> 'DOWN') AS slot_len_s
    FROM slots WHERE slot_len_s > 0 AND {touching}
),
clipped AS (
    SELECT epoch_us(greatest(slot_start, since)) AS since,
        epoch_us(least(slot_start + to_seconds(slots.slot_len_s), until)) AS until
    FROM slots, edges
    WHERE slot_start < until AND slot_start + to_seconds(slots.slot_len_s) > since
),
reached AS (
    SELECT since, until,
        max(until) OVER (ORDER BY since, until ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS reached
    FROM clipped
)
SELECT
    coalesce((epoch_us(until) - epoch_us(since)) // (slot_len_s * 1000000::BIGINT), 0)::BIGINT AS expected,
    coalesce((SELECT sum(greatest(0, until - greatest(since, coalesce(reached, since)))) FROM reached)
        // (slot_len_s * 1000000::BIGINT), 0)::BIGINT AS known,
    coalesce(slot_len_s, 0) AS slot_len_s
FROM edges
