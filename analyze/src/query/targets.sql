-- How targets do.
WITH chosen AS (
    SELECT {keys}, connect_us, rtt_target_us, retrans_target, end_reason, bytes_up, bytes_down
    FROM ({sessions})
),
per_key AS (
    SELECT {names},
        count(*) AS sessions,
        count(*) FILTER (end_reason IN ('target_refused', 'connect_timeout', 'target_unreachable',
            'resolve_failed', 'no_target')) AS failed,
        count(*) FILTER (end_reason = 'target_refused') AS refused,
        count(*) FILTER (end_reason = 'connect_timeout') AS timeouts,
        count(*) FILTER (end_reason = 'target_unreachable') AS unreachable,
        count(*) FILTER (end_reason = 'target_reset') AS resets,
        quantile_disc(connect_us, [0.5, 0.95, 0.99]) AS connect,
        quantile_disc(rtt_target_us, 0.5) AS rtt_p50_us,
        sum(retrans_target)::BIGINT AS retrans_target,
        round(100.0 * count(*) FILTER (retrans_target > 0) / nullif(count(retrans_target), 0), 2)
            AS retrans_percent,
        sum(bytes_up)::BIGINT AS bytes_up,
        sum(bytes_down)::BIGINT AS bytes_down
    FROM chosen
    GROUP BY ALL
)
SELECT {names}, sessions, failed, round(100.0 * failed / sessions, 2) AS failed_percent,
    refused, timeouts, unreachable, resets,
    connect[1] AS connect_p50_us, connect[2] AS connect_p95_us, connect[3] AS connect_p99_us,
    rtt_p50_us, retrans_target, retrans_percent, bytes_up, bytes_down,
    round(100.0 * (bytes_up + bytes_down) / nullif(sum(bytes_up + bytes_down) OVER (), 0), 2)
        AS share_percent
FROM per_key
