-- Why sessions ended. Who ended one in order is who closed first.
WITH chosen AS (
    SELECT {keys},
        CASE
            WHEN end_reason = 'done' AND first_fin <> 'none' THEN first_fin
            WHEN end_reason IN ('client_abort', 'client_reset') THEN 'client'
            WHEN end_reason IN ('target_refused', 'target_unreachable', 'target_reset', 'connect_timeout',
                'resolve_failed', 'no_target', 'target_down') THEN 'target'
            ELSE 'forwarder'
        END AS ended_by,
        end_reason, end_phase, duration_us, bytes_up, bytes_down
    FROM ({sessions})
),
per_end AS (
    SELECT {names}, ended_by, end_reason, end_phase,
        count(*) AS sessions,
        quantile_disc(duration_us, 0.5) AS duration_p50_us,
        sum(bytes_up)::BIGINT AS bytes_up,
        sum(bytes_down)::BIGINT AS bytes_down
    FROM chosen
    GROUP BY ALL
)
SELECT {names}, ended_by, end_reason, end_phase, sessions,
    round(100.0 * sessions / sum(sessions) OVER (), 2) AS share_percent,
    duration_p50_us, bytes_up, bytes_down
FROM per_end
