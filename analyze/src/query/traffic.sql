-- What moved in each slot, and how much of that is known. A moment of a forwarder that several rows
-- tell of is one; `slot` counts slots of {length} us since 1970.
WITH told AS (
    SELECT node, boot, epoch_us(slot_start) AS start_us, slot_len_s * 1000000::BIGINT AS length_us,
        status, open_sessions
    FROM slots
    WHERE {slots}
),
edges AS (
    SELECT node,
        coalesce({since}, min(start_us)) // {length} AS first,
        (coalesce({until}, (SELECT max(start_us + length_us) FROM told)) + {length} - 1) // {length} AS behind
    FROM told
    GROUP BY node
),
grid AS (SELECT node, unnest(range(first, behind)) AS slot FROM edges),
moments AS (
    SELECT node, start_us, max(length_us) AS length_us,
        bool_or(status = 'SKIPDATA') AS shed,
        count(*) > count(DISTINCT boot) AS twice,
        max(open_sessions) AS open_sessions
    FROM told
    WHERE status <> 'DOWN'
    GROUP BY ALL
),
measured AS (
    SELECT node, start_us // {length} AS slot,
        sum(length_us) AS us,
        bool_or(shed) AS shed,
        bool_or(twice) AS twice,
        arg_max(open_sessions, start_us) AS open_sessions
    FROM moments
    GROUP BY ALL
),
down AS (
    SELECT DISTINCT node, unnest(range(
        greatest(start_us // {length}, first), least((start_us + length_us + {length} - 1) // {length}, behind)
    )) AS slot
    FROM told JOIN edges USING (node)
    WHERE status = 'DOWN'
),
per_slot AS (
    SELECT grid.slot,
        count(*) AS expected,
        count(*) FILTER (m.us >= {length} OR d.slot IS NOT NULL) AS whole,
        count(*) FILTER (m.us IS NOT NULL OR d.slot IS NOT NULL) AS known,
        count(*) FILTER (m.us IS NULL AND d.slot IS NOT NULL) AS down,
        bool_or(coalesce(m.shed, false)) AS shed,
        bool_or(coalesce(m.twice, false)) AS twice,
        sum(CASE WHEN m.us IS NOT NULL THEN m.open_sessions WHEN d.slot IS NOT NULL THEN 0 END) AS open_sessions
    FROM grid
        LEFT JOIN measured m ON grid.node = m.node AND grid.slot = m.slot
        LEFT JOIN down d ON grid.node = d.node AND grid.slot = d.slot
    GROUP BY grid.slot
),
moved AS (
    SELECT epoch_us(slot_start) // {length} AS slot,
        sum(bytes_up) AS bytes_up,
        sum(bytes_down) AS bytes_down,
        count(*) FILTER (is_first) AS new_sessions,
        max(quality) AS quality
    FROM usage
    WHERE {where}
    GROUP BY ALL
),
refused AS (
    SELECT epoch_us(ts_last) // {length} AS slot, sum("count") AS denied
    FROM denied
    WHERE {denied_where}
    GROUP BY ALL
),
joined AS (
    SELECT slot, coalesce(expected, 1) AS expected, coalesce(whole, 0) AS whole, coalesce(known, 0) AS known,
        coalesce(down, 0) AS down, coalesce(shed, false) AS shed, coalesce(twice, false) AS twice,
        coalesce(known, 0) > 0 OR bytes_up IS NOT NULL AS told,
        coalesce(bytes_up, 0) AS bytes_up, coalesce(bytes_down, 0) AS bytes_down,
        coalesce(new_sessions, 0) AS new_sessions, coalesce(denied, 0) AS denied, open_sessions, quality
    FROM per_slot FULL JOIN moved USING (slot) LEFT JOIN refused USING (slot)
),
per_key AS (
    SELECT {key},
        count(*) FILTER (told) * {length} // 1000000 AS told_s,
        count(*) FILTER (told AND NOT twice) * {length} // 1000000 AS rated_s,
        sum(bytes_up) FILTER (told AND NOT twice) * 8 AS bits_up,
        sum(bytes_down) FILTER (told AND NOT twice) * 8 AS bits_down,
        sum(bytes_up + bytes_down) FILTER (told) AS bytes_total,
        max(open_sessions) AS open_sessions,
        (sum(new_sessions) FILTER (told))::BIGINT AS new_sessions,
        (sum(denied) FILTER (told))::BIGINT AS denied,
        max(quality) AS quality,
        sum(expected) AS expected, sum(whole) AS whole, sum(known) AS known, sum(down) AS down,
        bool_or(shed) AS shed, bool_or(twice) AS twice
    FROM joined
    GROUP BY ALL
)
SELECT {name},
    (bits_up // nullif(rated_s, 0))::BIGINT AS up_bps,
    (bits_down // nullif(rated_s, 0))::BIGINT AS down_bps,
    {open_sessions}::BIGINT AS open_sessions,
    new_sessions,
    round(new_sessions / nullif(told_s, 0), 3) AS new_per_s,
    {denied}::BIGINT AS denied,
    round({denied} / nullif(told_s, 0), 3) AS denied_per_s,
    CASE
        WHEN told_s = 0 THEN 'UNKNOWN'
        WHEN whole < expected THEN 'PARTIAL'
        WHEN twice THEN 'TWICE'
        WHEN shed THEN 'SKIPDATA'
        WHEN down = expected THEN 'DOWN'
        WHEN bytes_total = 0 THEN 'NODATA'
        ELSE 'OK'
    END AS status,
    quality
FROM per_key
