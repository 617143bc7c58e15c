-- What usage, sessions and slots add up to, session by session, beside figures of someone else.
WITH used AS (
    SELECT {keys}, node AS of_node, boot AS of_boot, session_no AS of_no,
        sum({measure})::HUGEINT AS bytes,
        sum(bytes_up)::HUGEINT AS up,
        sum(bytes_down)::HUGEINT AS down
    FROM usage
    WHERE {where_usage}
    GROUP BY ALL
),
-- All that ended in the period or later: what is not here runs.
ended AS (
    SELECT {keys}, node AS of_node, boot AS of_boot, session_no AS of_no,
        ({measure})::HUGEINT AS bytes, {in_period} AS is_of_period, {reaches_in} AS reaches_in
    FROM sessions
    WHERE {where_sessions}
),
per_session AS (
    SELECT {both_names},
        coalesce(used.bytes, 0) AS usage_bytes,
        coalesce(used.up, 0) AS up,
        coalesce(used.down, 0) AS down,
        CASE WHEN coalesce(is_of_period, false) THEN ended.bytes ELSE 0 END AS sessions_bytes,
        CASE WHEN ended.of_no IS NULL THEN used.bytes ELSE 0 END AS running_bytes,
        ended.of_no IS NOT NULL AND (NOT is_of_period OR reaches_in) AS is_over_edge
    FROM used FULL JOIN ended ON used.of_node = ended.of_node AND used.of_boot = ended.of_boot AND used.of_no = ended.of_no
    WHERE used.of_no IS NOT NULL OR is_of_period
),
per_key AS (
    SELECT {names},
        sum(usage_bytes) AS usage_bytes,
        sum(sessions_bytes) AS sessions_bytes,
        sum(up) AS up,
        sum(down) AS down,
        -sum(running_bytes) AS running_bytes,
        sum(sessions_bytes - usage_bytes) FILTER (is_over_edge) AS edge_bytes
    FROM per_session GROUP BY ALL
),
slot_sums AS ({slots}),
compared AS (
    SELECT {compared_names},
        coalesce(usage_bytes, 0)::BIGINT AS usage_bytes,
        coalesce(sessions_bytes, 0)::BIGINT AS sessions_bytes,
        slots_bytes::BIGINT AS slots_bytes,
        coalesce(running_bytes, 0)::BIGINT AS running_bytes,
        coalesce(edge_bytes, 0)::BIGINT AS edge_bytes,
        against.bytes::BIGINT AS against_bytes,
        up, down, usage_bytes IS NULL AS is_unknown
    FROM per_key
        FULL JOIN ({against}) against ON coalesce(per_key.{key}::VARCHAR, '') = against.key
        LEFT JOIN slot_sums ON slot_sums.key = coalesce(per_key.{key}::VARCHAR, against.key)
),
judged AS (
    SELECT *,
        CASE WHEN {has_against} THEN against_bytes - usage_bytes ELSE sessions_bytes - usage_bytes END AS difference_bytes
    FROM compared
)
SELECT {names}, usage_bytes, sessions_bytes, slots_bytes, running_bytes, edge_bytes, against_bytes,
    difference_bytes,
    round(100.0 * difference_bytes / nullif(usage_bytes, 0), 2) AS difference_percent,
    coalesce(nullif(concat_ws('; ',
        CASE
            WHEN NOT {has_against} OR difference_bytes = 0 THEN NULL
            WHEN is_unknown THEN 'the account does not know the key'
            WHEN against_bytes IS NULL THEN 'the file does not have the key'
            WHEN {both} AND abs(against_bytes - down) < least(abs(difference_bytes), down / 200) THEN 'the file counts down only'
            WHEN {both} AND abs(against_bytes - up) < least(abs(difference_bytes), up / 200) THEN 'the file counts up only'
            WHEN usage_bytes > 0 AND difference_bytes BETWEEN 0 AND usage_bytes * 0.15
                THEN 'the file counts bytes of the wire (headers, retransmissions), the account payload'
            WHEN usage_bytes > 0 AND difference_bytes BETWEEN usage_bytes * 0.9 AND usage_bytes * 1.3
                THEN 'the file counts both sides of the forwarder'
            WHEN difference_bytes > 0 THEN 'the file counts other traffic as well, or another period'
            ELSE 'the file counts less: another period or zone, or samples'
        END,
        CASE WHEN NOT {has_against} AND running_bytes <> 0 THEN 'sessions are still running' END,
        CASE WHEN NOT {has_against} AND edge_bytes <> 0 THEN 'sessions reach over the edge of the period' END,
        CASE WHEN sessions_bytes - usage_bytes <> running_bytes + edge_bytes OR slots_bytes > usage_bytes
            THEN 'rows are missing: analyze verify' END,
        CASE WHEN slots_bytes < usage_bytes
            THEN 'some slots have no row: the one that runs, or see analyze verify' END
    ), ''), 'none') AS cause
FROM judged
