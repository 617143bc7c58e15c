-- Per session: intervals without gap, first and final marked, the differences adding up to the
-- running total of each row and in the end to the session's row.
WITH steps AS (
    SELECT node, boot, session_no, interval_seq, is_first, is_final, total_up, total_down,
        row_number() OVER so_far - 1 AS place_in_session,
        sum(bytes_up) OVER so_far AS sum_up,
        sum(bytes_down) OVER so_far AS sum_down,
        lead(interval_seq) OVER (PARTITION BY node, boot, session_no ORDER BY interval_seq) AS next
    FROM usage
    WINDOW so_far AS (
        PARTITION BY node, boot, session_no ORDER BY interval_seq ROWS UNBOUNDED PRECEDING
    )
),
added AS (
    SELECT node, boot, session_no,
        count(*) AS usage_rows,
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
        a.ended
    FROM sessions s LEFT JOIN added a USING (node, boot, session_no)
),
found AS (
    SELECT boot, session_no, 'interval_seq ' || interval_seq || ' stands at place ' || place_in_session AS message
    FROM steps WHERE interval_seq <> place_in_session
    UNION ALL
    SELECT boot, session_no,
        'up to interval ' || interval_seq || ' bytes_up adds up to ' || sum_up || ', total_up says ' || total_up
    FROM steps WHERE sum_up <> total_up
    UNION ALL
    SELECT boot, session_no,
        'up to interval ' || interval_seq || ' bytes_down adds up to ' || sum_down || ', total_down says ' || total_down
    FROM steps WHERE sum_down <> total_down
    UNION ALL
    SELECT boot, session_no, 'is_first is wrong at interval ' || interval_seq
    FROM steps WHERE is_first <> (interval_seq = 0)
    UNION ALL
    SELECT boot, session_no, 'interval ' || interval_seq || ' is final, and interval ' || next || ' follows'
    FROM steps WHERE is_final AND next IS NOT NULL
    UNION ALL
    SELECT boot, session_no, 'its final usage is there, its row in sessions is not'
    FROM (FROM added WHERE ended) a ANTI JOIN sessions s USING (node, boot, session_no)
    UNION ALL
    -- A session that the recorder closed for a lost boot never had a final interval.
    SELECT boot, session_no, 'it ended, and no interval is final'
    FROM compared WHERE usage_rows > 0 AND NOT ended AND seq IS NOT NULL
    UNION ALL
    SELECT boot, session_no, 'it has ' || usage_rows || ' rows of usage, intervals says ' || intervals
    FROM compared WHERE usage_rows <> intervals
    UNION ALL
    SELECT boot, session_no, 'usage adds up to ' || added_bytes_up || ' bytes_up, its row says ' || bytes_up
    FROM compared WHERE added_bytes_up <> bytes_up
    UNION ALL
    SELECT boot, session_no, 'usage adds up to ' || added_bytes_down || ' bytes_down, its row says ' || bytes_down
    FROM compared WHERE added_bytes_down <> bytes_down
    UNION ALL
    SELECT boot, session_no,
        'usage adds up to ' || added_datagrams_up || ' datagrams_up, its row says ' || datagrams_up
    FROM compared WHERE added_datagrams_up <> datagrams_up
    UNION ALL
    SELECT boot, session_no,
        'usage adds up to ' || added_datagrams_down || ' datagrams_down, its row says ' || datagrams_down
    FROM compared WHERE added_datagrams_down <> datagrams_down
    UNION ALL
    SELECT boot, session_no, 'bytes exceeds received: more was delivered than was read'
    FROM compared WHERE bytes_up > received_up OR bytes_down > received_down
)
SELECT 'session ' || boot || '-' || session_no AS place, message, true AS fault FROM found
