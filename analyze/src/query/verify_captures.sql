-- The index of captures: sensible offsets, extents without gap, sessions that exist.
WITH marks AS ({marks}),
elsewhere AS ({elsewhere}),
retired AS ({retired}),
steps AS (
    -- A recorder that died between indexing a file and naming it indexes it again.
    SELECT *, lag(extent, 1, -1) OVER (PARTITION BY node, boot, session_no ORDER BY extent) AS before
    FROM (SELECT DISTINCT node, boot, session_no, extent FROM captures)
),
found AS (
    SELECT node, boot, session_no, 'extent ' || (before + 1)
            || CASE WHEN extent > before + 2 THEN ' to ' || (extent - 1) ELSE '' END || ' is missing' AS message
    FROM steps
    WHERE extent > before + 1 AND NOT (before = -1 AND EXISTS (FROM retired WHERE name = 'captures'))
    UNION ALL
    SELECT node, boot, session_no, 'extent ' || extent || ' goes from offset ' || offset_first || ' to ' || offset_last
    FROM captures WHERE offset_first < 0 OR offset_last < offset_first
    UNION ALL
    SELECT node, boot, session_no, 'extent ' || extent || ' has a negative count'
    FROM captures WHERE least(packets, captured_bytes, original_bytes, dropped_bytes, extent) < 0
    UNION ALL
    SELECT node, boot, session_no, 'it was captured and is not in sessions, though its boot has ended'
    FROM captures
        SEMI JOIN (FROM marks WHERE ended AND exact) m USING (node, boot)
        ANTI JOIN elsewhere e USING (node, boot)
        ANTI JOIN sessions s USING (node, boot, session_no)
    WHERE NOT EXISTS (FROM retired WHERE name = 'sessions')
)
SELECT 'session ' || boot || '-' || session_no AS place, message, true AS fault,
    node, boot, session_no AS session_first, session_no AS session_last,
    NULL::BIGINT AS seq_first, NULL::BIGINT AS seq_last, NULL::TIMESTAMP AS slot_start, NULL::INTEGER AS clock_pass
FROM found
