-- Per session: intervals without gap, first and final marked, each difference leading from one
-- running total to the next, and all of them to the session's row. Intervals may be missing where
-- rows of the boot went to another recorder or its account was lost; the first ones, where retention
-- has deleted usage.
WITH marks AS ({marks}),
elsewhere AS ({elsewhere}),
emptied AS (SELECT max(before) AS before FROM ({retired}) WHERE name = 'usage'),
lenient AS (
    SELECT node, boot FROM elsewhere
    UNION SELECT node, boot FROM marks WHERE ended AND NOT exact
),
steps AS (
    SELECT node, boot, session_no, interval_seq, is_first, is_final, bytes_up, bytes_down,
        total_up, total_down,
        lag(interval_seq, 1, -1) OVER in_order AS before,
        lag(total_up, 1, 0) OVER in_order AS before_up,
        lag(total_down, 1, 0) OVER in_order AS before_down,
        lead(interval_seq) OVER in_order AS next
    FROM usage
    WINDOW in_order AS (PARTITION BY node, boot, session_no ORDER BY interval_seq)
),
added AS (
    SELECT node, boot, session_no,
        count(*) AS usage_rows,
        max(interval_seq) + 1 = count(*) AS complete,
        sum(bytes_up) AS bytes_up,
        sum(bytes_down) AS bytes_down,
        sum(datagrams_up) AS datagrams_up,
        sum(datagrams_down) AS datagrams_down,
        bool_or(is_final) AS ended
    FROM usage GROUP BY ALL
),
compared AS (
    SELECT s.*,
        coalesce(a.usage_rows, 0) AS usage_rows,
        coalesce(a.bytes_up, 0) AS added_bytes_up,
        coalesce(a.bytes_down, 0) AS added_bytes_down,
        coalesce(a.datagrams_up, 0) AS added_datagrams_up,
        coalesce(a.datagrams_down, 0) AS added_datagrams_down,
        -- Where intervals may be missing and are, there is nothing to compare.
        coalesce(a.complete, false) OR (l.boot IS NULL AND (SELECT before FROM emptied) IS NULL) AS whole,
        a.ended
    FROM sessions s LEFT JOIN added a USING (node, boot, session_no) LEFT JOIN lenient l USING (node, boot)
),
found AS (
    SELECT node, boot, session_no,
        'interval_seq ' || (before + 1)
            || CASE WHEN interval_seq > before + 2 THEN ' to ' || (interval_seq - 1) ELSE '' END
            || ' is missing' AS message
    FROM steps ANTI JOIN lenient USING (node, boot)
    WHERE interval_seq > before + 1 AND NOT (before = -1 AND (SELECT before FROM emptied) IS NOT NULL)
    UNION ALL
    SELECT node, boot, session_no, 'interval_seq ' || interval_seq || ' is there twice'
    FROM steps WHERE interval_seq = before
    UNION ALL
    SELECT node, boot, session_no,
        'interval ' || interval_seq || ' adds ' || bytes_up || ' to a total_up of ' || before_up || ' and says ' || total_up
    FROM steps WHERE interval_seq = before + 1 AND before_up + bytes_up <> total_up
    UNION ALL
    SELECT node, boot, session_no,
        'interval ' || interval_seq || ' adds ' || bytes_down || ' to a total_down of ' || before_down || ' and says ' || total_down
    FROM steps WHERE interval_seq = before + 1 AND before_down + bytes_down <> total_down
    UNION ALL
    SELECT node, boot, session_no, 'interval ' || interval_seq || ' follows a larger total'
    FROM steps WHERE interval_seq > before + 1
        AND (before_up + bytes_up > total_up OR before_down + bytes_down > total_down)
    UNION ALL
    SELECT node, boot, session_no, 'is_first is wrong at interval ' || interval_seq
    FROM steps WHERE is_first <> (interval_seq = 0)
    UNION ALL
    SELECT node, boot, session_no, 'interval ' || interval_seq || ' is final, and interval ' || next || ' follows'
    FROM steps WHERE is_final AND next IS NOT NULL
    UNION ALL
    SELECT node, boot, session_no, 'its final usage is there, its row in sessions is not'
    FROM (FROM added WHERE ended) a ANTI JOIN sessions s USING (node, boot, session_no)
    WHERE NOT EXISTS (FROM ({retired}) WHERE name = 'sessions')
    UNION ALL
    -- A session that the recorder closed for a lost boot never had a final interval.
    SELECT node, boot, session_no, 'it ended, and no interval is final'
    FROM compared WHERE usage_rows > 0 AND NOT ended AND seq IS NOT NULL
    UNION ALL
    SELECT node, boot, session_no, 'it has ' || usage_rows || ' rows of usage, intervals says ' || intervals
    FROM compared WHERE whole AND usage_rows <> intervals
    UNION ALL
    SELECT node, boot, session_no, 'usage adds up to ' || added_bytes_up || ' bytes_up, its row says ' || bytes_up
    FROM compared WHERE whole AND added_bytes_up <> bytes_up
    UNION ALL
    SELECT node, boot, session_no, 'usage adds up to ' || added_bytes_down || ' bytes_down, its row says ' || bytes_down
    FROM compared WHERE whole AND added_bytes_down <> bytes_down
    UNION ALL
    SELECT node, boot, session_no,
        'usage adds up to ' || added_datagrams_up || ' datagrams_up, its row says ' || datagrams_up
    FROM compared WHERE whole AND added_datagrams_up <> datagrams_up
    UNION ALL
    SELECT node, boot, session_no,
        'usage adds up to ' || added_datagrams_down || ' datagrams_down, its row says ' || datagrams_down
    FROM compared WHERE whole AND added_datagrams_down <> datagrams_down
    UNION ALL
    -- With intervals missing, the last running total still has to be the session's.
    SELECT s.node, s.boot, s.session_no,
        'its last usage says ' || u.total_up || ' and ' || u.total_down || ' bytes, its row ' || s.bytes_up
            || ' and ' || s.bytes_down
    FROM (FROM compared WHERE NOT whole) s JOIN usage u USING (node, boot, session_no)
    WHERE u.is_final AND (u.total_up, u.total_down) IS DISTINCT FROM (s.bytes_up, s.bytes_down)
    UNION ALL
    SELECT node, boot, session_no, 'bytes exceeds received: more was delivered than was read'
    FROM compared WHERE bytes_up > received_up OR bytes_down > received_down
)
SELECT 'session ' || boot || '-' || session_no AS place, message, true AS fault,
    node, boot, session_no AS session_first, session_no AS session_last,
    NULL::BIGINT AS seq_first, NULL::BIGINT AS seq_last,
    NULL::TIMESTAMP AS slot_start, NULL::INTEGER AS clock_pass
FROM found
