-- The keys that move most, with their share of all and the highest mean rate of one slot. A session
-- that has a single row, as nearly all have, need not be held against others; and the slots are
-- looked at of those keys alone that are shown.
WITH per_session AS (
    SELECT {keys},
        CASE WHEN is_first AND is_final THEN NULL ELSE boot END AS boot,
        CASE WHEN is_first AND is_final THEN NULL ELSE session_no END AS session_no,
        count(*) AS single,
        sum(bytes_up) AS bytes_up,
        sum(bytes_down) AS bytes_down,
        min(slot_start) AS first_slot,
        max(slot_start) AS last_slot
    FROM usage
    WHERE {where}
    GROUP BY ALL
),
per_key AS (
    SELECT {names},
        sum(CASE WHEN session_no IS NULL THEN single ELSE 1 END)::BIGINT AS sessions,
        sum(bytes_up)::BIGINT AS bytes_up,
        sum(bytes_down)::BIGINT AS bytes_down,
        min(first_slot) AS first_slot,
        max(last_slot) AS last_slot
    FROM per_session
    GROUP BY ALL
),
shown AS (
    SELECT *, round(100.0 * {measure} / nullif(sum({measure}) OVER (), 0), 2) AS share_percent
    FROM per_key
    {largest}
),
-- Slots are divisors of 300 s long, so that rates add up as whole numbers.
per_slot AS (
    SELECT {names}, slot_start, sum((bytes_up + bytes_down) * (300 // slot_len_s)) AS bytes_in_300_s
    FROM (SELECT {keys}, slot_start, slot_len_s, bytes_up, bytes_down FROM usage WHERE {where}) chosen
        SEMI JOIN shown ON {same_in_shown}
    GROUP BY ALL
),
peak AS (
    SELECT {names}, (max(bytes_in_300_s) * 8 // 300)::BIGINT AS peak_bps FROM per_slot GROUP BY ALL
)
SELECT {key_names}, sessions, bytes_up, bytes_down, share_percent, peak_bps, first_slot, last_slot
FROM shown JOIN peak ON {same_in_peak}
