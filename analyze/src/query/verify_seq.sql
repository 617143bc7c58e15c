-- Every row a forwarder made, once each: 1, 2, 3… per boot up to its last.
WITH marks AS ({marks}),
numbered AS (
    SELECT node, boot, seq FROM sessions WHERE seq IS NOT NULL
    UNION ALL SELECT node, boot, seq FROM usage WHERE seq IS NOT NULL
    UNION ALL SELECT node, boot, seq FROM slots WHERE seq IS NOT NULL
    UNION ALL SELECT node, boot, seq FROM denied WHERE seq IS NOT NULL
    UNION ALL SELECT node, boot, seq FROM events WHERE seq IS NOT NULL
),
steps AS (
    SELECT node, boot, seq, lag(seq, 1, 0) OVER (PARTITION BY node, boot ORDER BY seq) AS before
    FROM numbered
),
ends AS (
    SELECT node, boot, max(seq) AS last FROM numbered GROUP BY ALL
),
found AS (
    SELECT node, boot,
        'seq ' || (before + 1)
            || CASE WHEN seq > before + 2 THEN ' to ' || (seq - 1) ELSE '' END
            || ' is missing' AS message
    FROM steps WHERE seq > before + 1
    UNION ALL
    SELECT node, boot, 'seq ' || seq || ' is there twice' FROM steps WHERE seq = before AND seq > 0
    UNION ALL
    SELECT node, boot, 'seq ' || seq || ' is below 1' FROM steps WHERE seq < 1
    UNION ALL
    SELECT node, boot,
        'the tables end with seq ' || coalesce(last, 0) || ', the manifest says ' || last_seq
    FROM marks LEFT JOIN ends USING (node, boot) WHERE coalesce(last, 0) <> last_seq
    UNION ALL
    SELECT node, boot,
        'the boot ended with seq ' || end_last_seq || ', the tables end with ' || coalesce(last, 0)
    FROM marks LEFT JOIN ends USING (node, boot) WHERE ended AND coalesce(last, 0) <> end_last_seq
    UNION ALL
    SELECT node, boot, 'the manifest does not know this boot' FROM ends ANTI JOIN marks USING (node, boot)
)
SELECT 'boot ' || boot || ' of ' || node AS place, message,
    NOT (coalesce(ended, false) AND NOT coalesce(exact, true)) AS fault
FROM found LEFT JOIN marks USING (node, boot)
