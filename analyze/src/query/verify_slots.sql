-- What a slot's row says of the usage written in it is what is there. The slot that runs has no row
-- yet; of a boot whose table was lost the last one never will.
WITH marks AS ({marks}),
counted AS (
    SELECT node, boot, slot_start, clock_pass,
        count(*) AS usage_rows, sum(bytes_up) AS bytes_up, sum(bytes_down) AS bytes_down
    FROM usage WHERE seq IS NOT NULL GROUP BY ALL
),
told AS (
    SELECT node, boot, slot_start, clock_pass,
        count(*) AS told_times,
        sum(usage_rows) AS told_rows, sum(bytes_up) AS told_up, sum(bytes_down) AS told_down
    FROM slots WHERE status <> 'DOWN' GROUP BY ALL
),
latest AS (
    SELECT node, boot, max(slot_start) AS latest_slot FROM told GROUP BY ALL
),
found AS (
    SELECT node, boot, slot_start, 'the slot has ' || told_times || ' rows' AS message, true AS fault
    FROM told WHERE told_times > 1
    UNION ALL
    SELECT node, boot, slot_start,
        'usage has ' || coalesce(usage_rows, 0) || ' rows, ' || coalesce(bytes_up, 0) || ' bytes up and '
            || coalesce(bytes_down, 0) || ' down; the slot says ' || told_rows || ', ' || told_up
            || ' and ' || told_down,
        true
    FROM told LEFT JOIN counted USING (node, boot, slot_start, clock_pass)
    WHERE (coalesce(usage_rows, 0), coalesce(bytes_up, 0), coalesce(bytes_down, 0))
        IS DISTINCT FROM (told_rows, told_up, told_down)
    UNION ALL
    SELECT node, boot, slot_start, 'it has ' || usage_rows || ' rows of usage and no row in slots',
        coalesce(exact, true)
    FROM counted
        ANTI JOIN told USING (node, boot, slot_start, clock_pass)
        LEFT JOIN marks USING (node, boot)
        LEFT JOIN latest USING (node, boot)
    WHERE coalesce(ended, false) OR slot_start <= latest_slot
)
SELECT 'slot ' || strftime(slot_start, '%Y-%m-%dT%H:%M:%SZ') || ' of boot ' || boot || ' of ' || node AS place,
    message, fault
FROM found
