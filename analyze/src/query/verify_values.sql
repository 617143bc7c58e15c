-- Nothing is negative, and usage lies in its slot and in the life of its session, as far as clocks
-- that were never set can tell.
WITH stepped AS (
    SELECT boot FROM events WHERE kind = 'clock_step' UNION SELECT boot FROM slots WHERE clock_pass > 0
),
found AS (
    SELECT node, boot, session_no, NULL::TIMESTAMP AS slot_start, NULL::INTEGER AS clock_pass,
        'it lasted ' || duration_us || ' us' AS message
    FROM sessions WHERE duration_us < 0
    UNION ALL
    SELECT node, boot, session_no, NULL, NULL, 'it took ' || connect_us || ' us to connect'
    FROM sessions WHERE connect_us < 0
    UNION ALL
    SELECT node, boot, session_no, NULL, NULL, 'its row has a negative count'
    FROM sessions
    WHERE least(bytes_up, bytes_down, received_up, received_down, datagrams_up, datagrams_down, captured_bytes,
        capture_dropped_bytes, intervals, unacked_up, unacked_down) < 0
    UNION ALL
    SELECT node, boot, session_no, slot_start, clock_pass, 'interval ' || interval_seq || ' has a negative count'
    FROM usage
    WHERE least(bytes_up, bytes_down, datagrams_up, datagrams_down, total_up, total_down, interval_seq) < 0
    UNION ALL
    SELECT node, boot, session_no, slot_start, clock_pass,
        'interval ' || interval_seq || ' lived ' || active_us || ' us of a slot of ' || slot_len_s || ' s'
    FROM usage WHERE active_us < 0 OR active_us > slot_len_s * 1000000::BIGINT
    UNION ALL
    SELECT node, boot, session_no, slot_start, clock_pass,
        'interval ' || interval_seq || ' lies in a slot of ' || slot_len_s || ' s that does not begin at a multiple of that'
    FROM usage WHERE slot_len_s < 1 OR epoch_us(slot_start) % (slot_len_s * 1000000::BIGINT) <> 0
    UNION ALL
    -- Two seconds for a stall of the clock between two threads.
    SELECT u.node, u.boot, u.session_no, u.slot_start, u.clock_pass,
        'interval ' || u.interval_seq || ' lies in a slot in which the session did not live'
    FROM usage u JOIN sessions s USING (node, boot, session_no) ANTI JOIN stepped USING (boot)
    WHERE u.quality = 0 AND s.quality = 0
        AND (u.slot_start > s.ts_end + to_seconds(2)
            OR u.slot_start + to_seconds(u.slot_len_s) < s.ts_start - to_seconds(2))
    UNION ALL
    SELECT node, boot, NULL, slot_start, clock_pass, 'the slot has a negative count'
    FROM slots WHERE least(bytes_up, bytes_down, usage_rows, open_sessions, slot_len_s) < 0
    UNION ALL
    SELECT node, boot, NULL, NULL, NULL, 'a refused attempt, seq ' || coalesce(seq, 0) || ', has a negative count'
    FROM denied WHERE least("count", bytes_up) < 0
)
SELECT CASE
        WHEN session_no IS NOT NULL THEN 'session ' || boot || '-' || session_no
        WHEN slot_start IS NOT NULL
            THEN 'slot ' || strftime(slot_start, '%Y-%m-%dT%H:%M:%SZ') || ' of boot ' || boot || ' of ' || node
        ELSE 'boot ' || boot || ' of ' || node
    END AS place,
    message, true AS fault, node, boot, session_no AS session_first, session_no AS session_last,
    NULL::BIGINT AS seq_first, NULL::BIGINT AS seq_last, slot_start, clock_pass
FROM found
