-- Sessions that have usage and no end yet, up to the end of the newest slot that is told of.
WITH told AS (
    SELECT node, boot, max(slot_start + to_seconds(slot_len_s)) AS until
    FROM slots
    WHERE status <> 'DOWN' AND {until}
    GROUP BY ALL
),
latest AS (
    SELECT
        u.boot || '-' || u.session_no AS session,
        u.node, u.boot, u.session_no,
        any_value(u.service) AS service,
        any_value(u.rule) AS rule,
        any_value(u.config_rev) AS config_rev,
        any_value(u.customer) AS customer,
        any_value(u.transport) AS transport,
        any_value(u.client_ip) AS client_ip,
        arg_max(u.target_ip, u.interval_seq) AS target_ip,
        -- It lived from then on to the end of its first slot.
        arg_min(u.slot_start + to_seconds(u.slot_len_s) - to_microseconds(u.active_us), u.interval_seq)
            AS ts_start,
        max(u.total_up) AS bytes_up,
        max(u.total_down) AS bytes_down,
        max(u.quality) AS quality,
        max(u.slot_start + to_seconds(u.slot_len_s)) AS seen,
        max(u.slot_start + to_seconds(u.slot_len_s)) FILTER (u.bytes_up + u.bytes_down > 0) AS moved,
        arg_max((u.bytes_up + u.bytes_down) * 8 // u.slot_len_s, u.interval_seq) AS bps
    FROM usage u ANTI JOIN sessions s ON u.node = s.node AND u.boot = s.boot AND u.session_no = s.session_no
    WHERE {alive} AND {until}
    GROUP BY u.node, u.boot, u.session_no
),
now AS (
    SELECT latest.*, greatest(seen, told.until) AS until FROM latest LEFT JOIN told USING (node, boot)
)
SELECT * EXCLUDE (seen, moved, bps, until),
    greatest(0, epoch_us(until) - epoch_us(ts_start)) AS duration_us,
    CASE WHEN seen = until THEN bps ELSE 0 END AS last_bps,
    greatest(0, epoch_us(until) - epoch_us(coalesce(moved, ts_start))) AS idle_us
FROM now
