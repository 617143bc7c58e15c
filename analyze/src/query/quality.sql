-- What every forwarder's account is worth: slots by status, and what is missing or went wrong.
WITH elsewhere AS ({elsewhere}),
emptied AS (SELECT max(before) AS before FROM ({retired})),
lost AS ({lost}),
known AS (
    SELECT *, slot_start + to_seconds(slot_len_s) AS slot_end FROM slots WHERE {nodes} AND slot_len_s > 0
),
-- Who had anything to tell since the day before, and who runs.
present AS (
    SELECT node FROM known
    WHERE coalesce(slot_end > {since} - to_days(1), true) AND coalesce(slot_start < {until}, true)
    UNION SELECT node FROM ({running}) WHERE {nodes}
),
spans AS (
    SELECT node,
        coalesce({since}, min(slot_start)) AS since,
        coalesce({until}, (SELECT max(slot_end) FROM known)) AS until
    FROM present LEFT JOIN known USING (node) GROUP BY node
),
-- The slot in which one boot ends and the next begins has two rows and is one slot.
measured AS (
    SELECT node, slot_start, max(slot_len_s) AS slot_len_s,
        bool_or(status NOT IN ('OK', 'NODATA')) AS shed,
        bool_or(status = 'OK') AS ok
    FROM known JOIN spans USING (node)
    WHERE status <> 'DOWN' AND slot_start >= since AND slot_start < until
    GROUP BY node, slot_start
),
counted AS (
    SELECT node,
        count(*) FILTER (ok AND NOT shed) AS slots_ok,
        count(*) FILTER (NOT ok AND NOT shed) AS slots_nodata,
        count(*) FILTER (shed) AS slots_skipdata,
        max(slot_len_s) * 1000000::BIGINT AS slot_us
    FROM measured GROUP BY node
),
clipped AS (
    SELECT node, status = 'DOWN' AS down,
        epoch_us(greatest(slot_start, since)) AS since, epoch_us(least(slot_end, until)) AS until
    FROM known JOIN spans USING (node)
    WHERE slot_end > since AND slot_start < until
),
-- How far the rows before reach, so that no moment counts twice.
reached AS (
    SELECT node, down, since, until,
        max(until) OVER before AS reached,
        max(until) FILTER (NOT down) OVER before AS measured
    FROM clipped
    WINDOW before AS (PARTITION BY node ORDER BY since, until ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
),
covered AS (
    SELECT node,
        sum(greatest(0, until - greatest(since, coalesce(reached, since)))) AS known_us,
        sum(greatest(0, until - greatest(since, coalesce(measured, since)))) FILTER (NOT down) AS measured_us
    FROM reached GROUP BY node
),
dropped AS (
    SELECT node,
        sum(capture_dropped_bytes)::BIGINT AS capture_dropped_bytes,
        sum(datagrams_dropped)::BIGINT AS datagrams_dropped
    FROM slots WHERE {nodes} AND {slots} GROUP BY node
),
numbered AS (
    SELECT node, boot, seq AS seq_first, seq AS seq_last, ts_end AS ts FROM sessions WHERE seq IS NOT NULL AND {nodes}
    UNION ALL SELECT node, boot, seq, seq, slot_start FROM usage WHERE seq IS NOT NULL AND {nodes}
    UNION ALL SELECT node, boot, seq, seq, slot_start FROM slots WHERE seq IS NOT NULL AND {nodes}
    UNION ALL SELECT node, boot, seq, seq, ts_last FROM denied WHERE seq IS NOT NULL AND {nodes}
    UNION ALL SELECT node, boot, seq, seq, ts FROM events WHERE seq IS NOT NULL AND {nodes}
    UNION ALL SELECT node, boot, seq_first, seq_last, NULL FROM elsewhere
),
steps AS (
    SELECT node, boot, seq_first, ts,
        coalesce(max(seq_last) OVER before, 0) AS seq_before,
        min(ts) OVER (PARTITION BY node, boot ORDER BY seq_first, seq_last ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING) AS ts_before
    FROM numbered
    WINDOW before AS (
        PARTITION BY node, boot ORDER BY seq_first, seq_last ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
-- A gap lies where the row behind it does. One beside rows that retention may have deleted is none.
gaps AS (
    SELECT node, sum(seq_first - seq_before - 1)::BIGINT AS seq_missing
    FROM steps
    WHERE seq_first > seq_before + 1 AND {gaps}
        AND coalesce(least(ts, ts_before) >= (SELECT before FROM emptied), (SELECT before FROM emptied) IS NULL)
    GROUP BY node
),
recovered AS (
    SELECT node, count(*) AS sessions_recovered FROM sessions WHERE quality = 1 AND {nodes} AND {sessions} GROUP BY node
),
inexact AS (
    SELECT node, count(*) AS rows_inexact FROM usage WHERE quality > 0 AND {nodes} AND {slots} GROUP BY node
),
told AS (
    SELECT node,
        count(*) FILTER (kind = 'clock_step') AS clock_steps,
        max(value) FILTER (kind IN ('spool_80', 'spool_eased', 'spool_full', 'spool_failed', 'spool_back'))::BIGINT
            AS spool_peak_bytes
    FROM events WHERE {nodes} AND {events} GROUP BY node
),
lost_boots AS (SELECT node, count(*) AS boots_lost FROM lost GROUP BY node)
SELECT node,
    coalesce(slots_ok, 0) AS slots_ok,
    coalesce(slots_nodata, 0) AS slots_nodata,
    coalesce(slots_skipdata, 0) AS slots_skipdata,
    -- Time without whole slots counts as the slots it would fill, a begun one as one.
    ceil((coalesce(known_us, 0) - coalesce(measured_us, 0)) / coalesce(slot_us, {slot_us}))::BIGINT AS slots_down,
    greatest(0, ceil((epoch_us(until) - epoch_us(since) - coalesce(known_us, 0)) / coalesce(slot_us, {slot_us})))::BIGINT
        AS slots_missing,
    coalesce(seq_missing, 0) AS seq_missing,
    coalesce(boots_lost, 0) AS boots_lost,
    coalesce(sessions_recovered, 0) AS sessions_recovered,
    coalesce(rows_inexact, 0) AS rows_inexact,
    coalesce(clock_steps, 0) AS clock_steps,
    spool_peak_bytes,
    coalesce(capture_dropped_bytes, 0) AS capture_dropped_bytes,
    datagrams_dropped
FROM spans
    LEFT JOIN counted USING (node) LEFT JOIN covered USING (node) LEFT JOIN dropped USING (node)
    LEFT JOIN gaps USING (node) LEFT JOIN recovered USING (node) LEFT JOIN inexact USING (node)
    LEFT JOIN told USING (node) LEFT JOIN lost_boots USING (node)
