-- Every row a forwarder made, once each: 1, 2, 3… per boot up to its last. Rows that went to another
-- recorder are counted as being there; below the first row that retention cannot have touched,
-- missing rows are no fault.
WITH marks AS ({marks}),
elsewhere AS ({elsewhere}),
emptied AS (SELECT max(before) AS before FROM ({retired})),
numbered AS (
    SELECT node, boot, seq, ts_end AS ts FROM sessions WHERE seq IS NOT NULL
    UNION ALL SELECT node, boot, seq, slot_start FROM usage WHERE seq IS NOT NULL
    UNION ALL SELECT node, boot, seq, slot_start FROM slots WHERE seq IS NOT NULL
    UNION ALL SELECT node, boot, seq, ts_last FROM denied WHERE seq IS NOT NULL
    UNION ALL SELECT node, boot, seq, ts FROM events WHERE seq IS NOT NULL
),
repeated AS (
    SELECT node, boot, seq, count(*) AS times FROM numbered GROUP BY ALL HAVING count(*) > 1
),
spans AS (
    SELECT node, boot, seq AS seq_first, seq AS seq_last FROM numbered
    UNION ALL FROM elsewhere
),
steps AS (
    SELECT node, boot, seq_first, coalesce(max(seq_last) OVER (
        PARTITION BY node, boot ORDER BY seq_first, seq_last ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ), 0) AS before
    FROM spans
),
away AS (
    SELECT node, boot, max(seq_last) AS away FROM elsewhere GROUP BY ALL
),
ends AS (
    SELECT node, boot, max(seq) AS last,
        min(seq) FILTER (ts >= (SELECT before FROM emptied)) AS settled
    FROM numbered GROUP BY ALL
),
found AS (
    SELECT node, boot, before + 1 AS seq_first, seq_first - 1 AS seq_last,
        'seq ' || (before + 1)
            || CASE WHEN seq_first > before + 2 THEN ' to ' || (seq_first - 1) ELSE '' END
            || ' is missing' AS message,
        true AS lost
    FROM steps WHERE seq_first > before + 1
    UNION ALL
    SELECT node, boot, seq, seq, 'seq ' || seq || ' is there '
            || CASE WHEN times = 2 THEN 'twice' ELSE times || ' times' END,
        false
    FROM repeated
    UNION ALL
    SELECT node, boot, seq, seq, 'seq ' || seq || ' is below 1', false FROM numbered WHERE seq < 1
    UNION ALL
    SELECT node, boot, coalesce(last, 0), last_seq,
        'the tables end with seq ' || coalesce(last, 0) || ', the manifest says ' || last_seq,
        true
    FROM marks LEFT JOIN ends USING (node, boot) WHERE coalesce(last, 0) <> last_seq
    UNION ALL
    SELECT node, boot, coalesce(last, 0), end_last_seq,
        'the boot ended with seq ' || end_last_seq || ', the tables end with ' || coalesce(last, 0),
        true
    FROM marks LEFT JOIN ends USING (node, boot) LEFT JOIN away USING (node, boot)
    WHERE ended AND greatest(coalesce(last, 0), coalesce(away, 0)) <> end_last_seq
    UNION ALL
    SELECT node, boot, NULL, NULL, 'the manifest does not know this boot', false
    FROM ends ANTI JOIN marks USING (node, boot)
),
judged AS (
    SELECT found.*,
        coalesce(ended, false) AND NOT coalesce(exact, true) AS inexact,
        lost AND (SELECT before FROM emptied) IS NOT NULL
            AND seq_last < coalesce(settled, seq_last + 1) AS old
    FROM found LEFT JOIN marks USING (node, boot) LEFT JOIN ends USING (node, boot)
)
SELECT 'boot ' || boot || ' of ' || node AS place,
    message || CASE WHEN inexact THEN ': the account of this boot was lost'
        WHEN old THEN ': retention has deleted rows as old as these' ELSE '' END AS message,
    NOT inexact AND NOT old AS fault,
    node, boot, NULL::BIGINT AS session_first, NULL::BIGINT AS session_last, seq_first, seq_last,
    NULL::TIMESTAMP AS slot_start, NULL::INTEGER AS clock_pass
FROM judged
UNION ALL
SELECT 'boot ' || boot || ' of ' || node,
    'seq ' || seq_first || ' to ' || seq_last || ' went to another recorder', false,
    node, boot, NULL, NULL, seq_first, seq_last, NULL, NULL
FROM elsewhere
