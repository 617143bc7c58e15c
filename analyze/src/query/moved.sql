-- What moved per key. Slots are added up first, so that the highest rate is that of a whole slot. A
-- session counts once per key: with a single row it counts where that row does, and only those
-- with several must be told apart. When the largest alone are shown, they are found first.
WITH {ranked}chosen AS NOT MATERIALIZED (
    SELECT *
    FROM (
        SELECT {plain_keys}boot, session_no, slot_start, slot_len_s, bytes_up, bytes_down,
            datagrams_up, datagrams_down, active_us, quality, is_first AND is_final AS is_only
        FROM usage
        WHERE {where} AND {now}
    ) AS moved {only}
),
per_slot AS (
    SELECT {plain_names}slot_start,
        count(*) FILTER (is_only) AS sessions,
        sum(bytes_up)::BIGINT AS bytes_up,
        sum(bytes_down)::BIGINT AS bytes_down,
        sum(datagrams_up)::BIGINT AS datagrams_up,
        sum(datagrams_down)::BIGINT AS datagrams_down,
        sum(active_us)::BIGINT AS active_us,
        max(quality) AS quality,
        -- The bytes of 300 s at the same rate: every slot is a divisor of them.
        sum((bytes_up + bytes_down) * greatest(1, 300 // slot_len_s))::BIGINT AS pace,
        max(slot_start + to_seconds(slot_len_s)) AS slot_end
    FROM chosen
    GROUP BY ALL
),
parts AS (
    SELECT {plain_names}{time_keys}slot_start, slot_end, sessions, bytes_up, bytes_down,
        datagrams_up, datagrams_down, active_us, quality, pace, 0::BIGINT AS previous_bytes_total
    FROM per_slot
    UNION ALL BY NAME
    SELECT {names}, count(*) AS sessions
    FROM (SELECT DISTINCT {plain_names}{time_keys}boot, session_no FROM chosen WHERE NOT is_only)
    GROUP BY ALL
    {previous}
),
per_key AS (
    SELECT {names},
        sum(sessions)::BIGINT AS sessions,
        sum(bytes_up)::BIGINT AS bytes_up,
        sum(bytes_down)::BIGINT AS bytes_down,
        (sum(bytes_up) + sum(bytes_down))::BIGINT AS bytes_total,
        sum(datagrams_up)::BIGINT AS datagrams_up,
        sum(datagrams_down)::BIGINT AS datagrams_down,
        sum(active_us)::BIGINT AS active_us,
        max(quality) AS quality,
        min(slot_start) AS first_slot,
        max(slot_start) AS last_slot,
        max(slot_end) AS last_end,
        (max(pace)::HUGEINT * 8 // 300)::BIGINT AS peak_bps,
        sum(previous_bytes_total)::BIGINT AS previous_bytes_total{buckets}
    FROM parts
    GROUP BY ALL
    -- What moved in the period before alone is no row of this one.
    HAVING max(slot_start) IS NOT NULL
)
