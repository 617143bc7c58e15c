-- The keys that move most, with their share of all and the highest mean rate of one slot.
WITH chosen AS (
    SELECT {keys}, boot, session_no, slot_start, slot_len_s, bytes_up, bytes_down
    FROM usage
    WHERE {where}
),
per_session AS (
    SELECT {names}, boot, session_no,
        sum(bytes_up) AS bytes_up,
        sum(bytes_down) AS bytes_down,
        min(slot_start) AS first_slot,
        max(slot_start) AS last_slot
    FROM chosen
    GROUP BY ALL
),
per_key AS (
    SELECT {names},
        count(*) AS sessions,
        sum(bytes_up)::BIGINT AS bytes_up,
        sum(bytes_down)::BIGINT AS bytes_down,
        min(first_slot) AS first_slot,
        max(last_slot) AS last_slot
    FROM per_session
    GROUP BY ALL
),
per_slot AS (
    SELECT {names}, slot_start, sum((bytes_up + bytes_down) * 8.0 / slot_len_s) AS bps
    FROM chosen
    GROUP BY ALL
),
peak AS (
    SELECT {names}, floor(max(bps))::BIGINT AS peak_bps FROM per_slot GROUP BY ALL
)
SELECT {key_names}, sessions, bytes_up, bytes_down,
    round(100.0 * {measure} / nullif(sum({measure}) OVER (), 0), 2) AS share_percent,
    peak_bps, first_slot, last_slot
FROM per_key JOIN peak ON {same_key}
