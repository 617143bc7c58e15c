-- Sessions that have usage and no end yet, as far as their usage tells.
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
    -- It began within its first slot and lives on; slots in which nothing moved have no row.
    greatest(0, epoch_us(max(u.slot_start + to_seconds(u.slot_len_s)))
        - epoch_us(arg_min(u.slot_start + to_seconds(u.slot_len_s), u.interval_seq))
        + arg_min(u.active_us, u.interval_seq))::BIGINT AS duration_us,
    -- Rows may have gone to another recorder; the totals tell of them all.
    max(u.total_up) AS bytes_up,
    max(u.total_down) AS bytes_down,
    sum(u.datagrams_up)::BIGINT AS datagrams_up,
    sum(u.datagrams_down)::BIGINT AS datagrams_down,
    (max(u.interval_seq) + 1)::INTEGER AS intervals,
    max(u.quality) AS quality
FROM usage u ANTI JOIN sessions s ON u.node = s.node AND u.boot = s.boot AND u.session_no = s.session_no
WHERE {where}
GROUP BY u.node, u.boot, u.session_no
HAVING {latest}
