-- Refused attempts per key, and how many of the clients had a session of the same service after
-- their last refusal.
WITH chosen AS (
    SELECT {keys}, service AS came_to, client_ip AS came_from, "count" AS attempts, bytes_up, ts_first, ts_last
    FROM denied
    WHERE {where}
),
per_client AS (
    SELECT {names}, came_to, came_from,
        sum(attempts)::BIGINT AS attempts,
        sum(bytes_up)::BIGINT AS bytes_up,
        min(ts_first) AS ts_first,
        max(ts_last) AS ts_last
    FROM chosen
    GROUP BY ALL
),
begun AS (
    SELECT service AS came_to, client_ip AS came_from, ts_start FROM sessions
    UNION ALL
    -- Of a session that runs: it lived to the end of its first slot.
    SELECT service, client_ip, slot_start + to_seconds(slot_len_s) - to_microseconds(active_us)
    FROM usage
    WHERE is_first AND NOT is_final
),
passed AS (
    SELECT came_to, came_from, max(ts_start) AS ts_start
    FROM begun SEMI JOIN per_client USING (came_to, came_from)
    GROUP BY ALL
),
per_key AS (
    SELECT {names},
        sum(attempts)::BIGINT AS "count",
        sum(bytes_up)::BIGINT AS bytes_up,
        min(ts_first) AS ts_first,
        max(ts_last) AS ts_last,
        count(DISTINCT came_from) AS clients,
        count(DISTINCT came_from) FILTER (ts_start > ts_last) AS allowed_later
    FROM per_client LEFT JOIN passed USING (came_to, came_from)
    GROUP BY {names}
)
SELECT * FROM per_key
