-- Every session of an ended boot has exactly one row, but for those that were not open yet at a
-- kill. Of a running boot only doubles can be told.
WITH marks AS ({marks}),
elsewhere AS ({elsewhere}),
emptied AS (SELECT max(before) AS before FROM ({retired}) WHERE name = 'sessions'),
steps AS (
    SELECT node, boot, session_no,
        lag(session_no, 1, 0) OVER (PARTITION BY node, boot ORDER BY session_no) AS before
    FROM sessions
),
ends AS (
    SELECT node, boot, max(session_no) AS last FROM sessions GROUP BY ALL
),
-- Boots of which retention may have deleted sessions: they began before it stopped.
begun AS (
    SELECT node, boot, min(ts) AS ts, min(seq) AS seq FROM (
        SELECT node, boot, seq, ts_end AS ts FROM sessions
        UNION ALL SELECT node, boot, seq, slot_start FROM usage
        UNION ALL SELECT node, boot, seq, ts FROM events WHERE seq IS NOT NULL
    ) GROUP BY ALL
),
boots AS (
    SELECT marks.*, marks.boot IN (SELECT boot FROM elsewhere) AS moved,
        (SELECT before FROM emptied) IS NOT NULL
            AND (begun.ts IS NULL OR begun.ts < (SELECT before FROM emptied) OR begun.seq > 1) AS old
    FROM marks LEFT JOIN begun USING (node, boot)
),
gaps AS (
    SELECT node, boot, before + 1 AS gap_first, session_no - 1 AS gap_last
    FROM steps SEMI JOIN (FROM marks WHERE ended) m USING (node, boot)
    WHERE session_no > before + 1
    UNION ALL
    SELECT node, boot, coalesce(last, 0) + 1, last_session_no
    FROM marks LEFT JOIN ends USING (node, boot)
    WHERE ended AND last_session_no > coalesce(last, 0)
),
missing AS (
    SELECT node, boot, sum(gap_last - gap_first + 1) AS sessions FROM gaps GROUP BY ALL
),
found AS (
    SELECT node, boot, gap_first AS session_first, gap_last AS session_last,
        'session ' || boot || '-' || gap_first
            || CASE WHEN gap_last > gap_first THEN ' to ' || boot || '-' || gap_last ELSE '' END
            || CASE
                WHEN NOT exact THEN ' is missing: the account of this boot was lost'
                WHEN sessions <= unopened THEN ' was given out at the instant of a kill, nothing was dialled'
                WHEN moved THEN ' is missing: rows of this boot went to another recorder'
                WHEN old THEN ' is missing: retention has deleted sessions of this boot'
                ELSE ' is missing'
            END AS message,
        exact AND sessions > unopened AND NOT moved AND NOT old AS fault
    FROM gaps JOIN missing USING (node, boot) JOIN boots USING (node, boot)
    UNION ALL
    SELECT node, boot, session_no, session_no, 'session ' || boot || '-' || session_no || ' is there twice', true
    FROM steps WHERE session_no = before
    UNION ALL
    SELECT node, boot, session_no, session_no, 'session ' || boot || '-' || session_no || ' is below 1', true
    FROM sessions WHERE session_no < 1
    UNION ALL
    SELECT node, boot, last, last,
        'session ' || boot || '-' || last || ' is beyond the last one, ' || last_session_no, exact
    FROM ends JOIN marks USING (node, boot) WHERE ended AND last > last_session_no
    UNION ALL
    SELECT node, boot, NULL, NULL,
        'its account was lost: what it did after seq ' || end_last_seq || ' is not known', false
    FROM marks WHERE ended AND NOT exact
)
SELECT 'boot ' || boot || ' of ' || node AS place, message, fault,
    node, boot, session_first, session_last, NULL::BIGINT AS seq_first, NULL::BIGINT AS seq_last,
    NULL::TIMESTAMP AS slot_start, NULL::INTEGER AS clock_pass
FROM found
