-- The bytes of the slot at a place from above, for every key and for all traffic together. Slots
-- without a row moved nothing: they are below all that are here.
WITH chosen AS (
    SELECT {keys}, epoch_us(slot_start) // {slot_us} AS slot, bytes_up, bytes_down FROM usage WHERE {where}
),
everything AS (
    SELECT slot, sum(bytes_up) AS bytes_up, sum(bytes_down) AS bytes_down
    FROM chosen GROUP BY ALL
),
per_slot AS (
    SELECT {key}::VARCHAR AS key, false AS is_all, slot, sum(bytes_up) AS bytes_up, sum(bytes_down) AS bytes_down
    FROM chosen GROUP BY ALL
    UNION ALL SELECT NULL, true, slot, bytes_up, bytes_down FROM everything
),
ranked AS (
    SELECT *,
        row_number() OVER (PARTITION BY key, is_all ORDER BY bytes_up DESC) AS place_up,
        row_number() OVER (PARTITION BY key, is_all ORDER BY bytes_down DESC) AS place_down
    FROM per_slot
)
SELECT key, is_all,
    coalesce(max(bytes_up) FILTER (place_up = {place}), 0)::BIGINT AS p95_up,
    coalesce(max(bytes_down) FILTER (place_down = {place}), 0)::BIGINT AS p95_down
FROM ranked
GROUP BY ALL
ORDER BY is_all, key
