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
    sum(u.active_us)::BIGINT AS duration_us,
    sum(u.bytes_up)::BIGINT AS bytes_up,
    sum(u.bytes_down)::BIGINT AS bytes_down,
    sum(u.datagrams_up)::BIGINT AS datagrams_up,
    sum(u.datagrams_down)::BIGINT AS datagrams_down,
    count(*)::INTEGER AS intervals,
    max(u.quality) AS quality
FROM usage u ANTI JOIN sessions s ON u.boot = s.boot AND u.session_no = s.session_no
WHERE {where}
GROUP BY u.node, u.boot, u.session_no
HAVING {latest}
