-- The index of captures: sensible offsets, extents without gap, sessions that exist.
WITH marks AS ({marks}),
steps AS (
    -- A recorder that died between indexing a file and naming it indexes it again.
    SELECT *, row_number() OVER (PARTITION BY node, boot, session_no ORDER BY extent) - 1 AS place_in_session
    FROM (SELECT DISTINCT node, boot, session_no, extent FROM captures)
),
found AS (
    SELECT boot, session_no, 'extent ' || extent || ' stands at place ' || place_in_session AS message
    FROM steps WHERE extent <> place_in_session
    UNION ALL
    SELECT boot, session_no, 'extent ' || extent || ' goes from offset ' || offset_first || ' to ' || offset_last
    FROM captures WHERE offset_first < 0 OR offset_last < offset_first
    UNION ALL
    SELECT boot, session_no, 'it was captured and is not in sessions, though its boot has ended'
    FROM captures
        SEMI JOIN (FROM marks WHERE ended AND exact) m USING (node, boot)
        ANTI JOIN sessions s USING (node, boot, session_no)
)
SELECT 'session ' || boot || '-' || session_no AS place, message, true AS fault FROM found
