-- Every session of an ended boot has exactly one row, but for those that were not open yet at a
-- kill. Of a running boot only doubles can be told.
WITH marks AS ({marks}),
steps AS (
    SELECT node, boot, session_no,
        lag(session_no, 1, 0) OVER (PARTITION BY node, boot ORDER BY session_no) AS before
    FROM sessions
),
ends AS (
    SELECT node, boot, max(session_no) AS last FROM sessions GROUP BY ALL
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
    SELECT node, boot,
        'session ' || boot || '-' || gap_first
            || CASE WHEN gap_last > gap_first THEN ' to ' || boot || '-' || gap_last ELSE '' END
            || CASE
                WHEN NOT exact THEN ' is missing: the account of this boot was lost'
                WHEN sessions <= unopened THEN ' was given out at the instant of a kill, nothing was dialled'
                ELSE ' is missing'
            END AS message,
        exact AND sessions > unopened AS fault
    FROM gaps JOIN missing USING (node, boot) JOIN marks USING (node, boot)
    UNION ALL
    SELECT node, boot, 'session ' || boot || '-' || session_no || ' is there twice', true
    FROM steps WHERE session_no = before
    UNION ALL
    SELECT node, boot,
        'session ' || boot || '-' || last || ' is beyond the last one, ' || last_session_no, true
    FROM ends JOIN marks USING (node, boot) WHERE ended AND last > last_session_no
)
SELECT 'boot ' || boot || ' of ' || node AS place, message, fault FROM found
