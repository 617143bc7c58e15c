-- What a slot's row says of the usage written in it is what is there, once per slot and pass of the
-- clock, and nothing was measured while nothing ran. The slot that runs has no row yet; of a boot
-- whose table was lost the last one never will.
WITH marks AS ({marks}),
elsewhere AS ({elsewhere}),
emptied AS (SELECT max(before) AS before FROM ({retired}) WHERE name IN ('usage', 'slots')),
counted AS (
    SELECT node, boot, slot_start, clock_pass,
        count(*) AS usage_rows, sum(bytes_up) AS bytes_up, sum(bytes_down) AS bytes_down
    FROM usage
    WHERE seq IS NOT NULL AND slot_start >= coalesce((SELECT before FROM emptied), slot_start)
    GROUP BY ALL
),
told AS (
    SELECT node, boot, slot_start, clock_pass,
        count(*) AS told_times,
        sum(usage_rows) AS told_rows, sum(bytes_up) AS told_up, sum(bytes_down) AS told_down
    FROM slots
    WHERE status <> 'DOWN' AND slot_start >= coalesce((SELECT before FROM emptied), slot_start)
    GROUP BY ALL
),
latest AS (
    SELECT node, boot, max(slot_start) AS latest_slot FROM told GROUP BY ALL
),
-- Of a forwarder whose clock went back nobody can tell what was when.
steady AS (
    SELECT * FROM slots WHERE boot NOT IN (SELECT boot FROM slots WHERE clock_pass > 0)
),
found AS (
    SELECT node, boot, slot_start, clock_pass,
        'the slot has ' || count(*) || ' rows' AS message, true AS fault
    FROM slots GROUP BY node, boot, slot_start, clock_pass, status = 'DOWN' HAVING count(*) > 1
    UNION ALL
    SELECT node, boot, slot_start, clock_pass,
        'usage has ' || coalesce(usage_rows, 0) || ' rows, ' || coalesce(bytes_up, 0) || ' bytes up and '
            || coalesce(bytes_down, 0) || ' down; the slot says ' || told_rows || ', ' || told_up
            || ' and ' || told_down,
        boot NOT IN (SELECT boot FROM elsewhere)
    FROM told LEFT JOIN counted USING (node, boot, slot_start, clock_pass)
    WHERE (coalesce(usage_rows, 0), coalesce(bytes_up, 0), coalesce(bytes_down, 0))
        IS DISTINCT FROM (told_rows, told_up, told_down)
    UNION ALL
    SELECT node, boot, slot_start, clock_pass, 'it has ' || usage_rows || ' rows of usage and no row in slots',
        coalesce(exact, true) AND boot NOT IN (SELECT boot FROM elsewhere)
    FROM counted
        ANTI JOIN told USING (node, boot, slot_start, clock_pass)
        LEFT JOIN marks USING (node, boot)
        LEFT JOIN latest USING (node, boot)
    WHERE coalesce(ended, false) OR slot_start <= latest_slot
    UNION ALL
    SELECT down.node, down.boot, down.slot_start, down.clock_pass,
        'nothing ran for ' || down.slot_len_s || ' s, and boot ' || ran.boot || ' measured the slot '
            || strftime(ran.slot_start, '%Y-%m-%dT%H:%M:%SZ'),
        true
    FROM (FROM steady WHERE status = 'DOWN') down JOIN (FROM steady WHERE status <> 'DOWN') ran
        ON down.node = ran.node AND down.clock_pass = ran.clock_pass
        AND ran.slot_start < down.slot_start + to_seconds(down.slot_len_s)
        AND down.slot_start < ran.slot_start + to_seconds(ran.slot_len_s)
    UNION ALL
    SELECT node, boot, slot_start, clock_pass,
        'the slot is ' || slot_len_s || ' s long and does not begin at a multiple of that', true
    FROM slots WHERE status <> 'DOWN' AND (slot_len_s < 1 OR epoch_us(slot_start) % (slot_len_s * 1000000::BIGINT) <> 0)
)
SELECT 'slot ' || strftime(slot_start, '%Y-%m-%dT%H:%M:%SZ') || ' of boot ' || boot || ' of ' || node AS place,
    message, fault,
    node, boot, NULL::BIGINT AS session_first, NULL::BIGINT AS session_last,
    NULL::BIGINT AS seq_first, NULL::BIGINT AS seq_last, slot_start, clock_pass
FROM found
