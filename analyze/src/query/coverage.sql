-- How much of the period was measured, over all nodes and in microseconds. Every moment of a node
-- counts once, however many rows tell of it, as the worst that any of them says; a moment that a
-- forwarder saw twice, because its clock was set back, as just that.
WITH known AS (
    SELECT node, status, slot_start, slot_start + to_seconds(slot_len_s) AS slot_end,
        status <> 'DOWN'
            AND min(clock_pass) FILTER (status <> 'DOWN') OVER slot
                <> max(clock_pass) FILTER (status <> 'DOWN') OVER slot AS twice
    FROM {slots}
    WHERE {where} AND slot_len_s > 0
    WINDOW slot AS (PARTITION BY node, boot, slot_start)
),
-- Who had anything to tell since the day before.
nodes AS (
    SELECT node FROM known
    WHERE coalesce(slot_end > {since} - to_days(1), true) AND coalesce(slot_start < {until}, true)
    UNION SELECT node FROM ({nodes})
),
spans AS (
    SELECT node,
        coalesce({since}, min(slot_start)) AS since,
        coalesce({until}, (SELECT max(slot_end) FROM known)) AS until
    FROM nodes LEFT JOIN known USING (node)
    GROUP BY node
),
clipped AS (
    SELECT node, greatest(slot_start, since) AS since, least(slot_end, until) AS until,
        twice::INTEGER AS twice,
        (NOT twice AND status NOT IN ('OK', 'NODATA', 'DOWN'))::INTEGER AS shed,
        (NOT twice AND status IN ('OK', 'NODATA'))::INTEGER AS measured,
        (status = 'DOWN')::INTEGER AS down
    FROM known JOIN spans USING (node)
    WHERE slot_end > since AND slot_start < until
),
steps AS (
    SELECT node, since AS moment, twice, shed, measured, down FROM clipped
    UNION ALL SELECT node, until, -twice, -shed, -measured, -down FROM clipped
),
moments AS (
    SELECT node, moment, sum(twice) AS twice, sum(shed) AS shed, sum(measured) AS measured, sum(down) AS down
    FROM steps GROUP BY ALL
),
running AS (
    SELECT
        sum(twice) OVER so_far AS twice, sum(shed) OVER so_far AS shed,
        sum(measured) OVER so_far AS measured, sum(down) OVER so_far AS down,
        epoch_us(lead(moment) OVER (PARTITION BY node ORDER BY moment)) - epoch_us(moment) AS us
    FROM moments
    WINDOW so_far AS (PARTITION BY node ORDER BY moment)
)
SELECT
    (SELECT coalesce(sum(greatest(0, epoch_us(until) - epoch_us(since))), 0) FROM spans)::BIGINT AS expected_us,
    coalesce(sum(us) FILTER (twice = 0 AND shed = 0 AND measured > 0), 0)::BIGINT AS measured_us,
    coalesce(sum(us) FILTER (twice = 0 AND shed > 0), 0)::BIGINT AS shed_us,
    coalesce(sum(us) FILTER (twice > 0), 0)::BIGINT AS twice_us,
    coalesce(sum(us) FILTER (twice = 0 AND shed = 0 AND measured = 0 AND down > 0), 0)::BIGINT AS down_us
FROM running
