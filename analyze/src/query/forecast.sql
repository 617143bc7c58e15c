(
    -- What was used of an allowance so far, and where that leads by the end of the period.
    WITH chosen AS (
        SELECT {keys}, slot_start, {day} AS day, bytes_up, bytes_down FROM usage WHERE {where}
    ),
    per_slot AS (
        SELECT {names}, slot_start, sum(bytes_up)::HUGEINT AS bytes_up, sum(bytes_down)::HUGEINT AS bytes_down
        FROM chosen WHERE slot_start >= make_timestamp({since}) GROUP BY ALL
    ),
    so_far AS (
        SELECT {names}, slot_start,
            sum(bytes_up) OVER until_now AS sofar_up,
            sum(bytes_down) OVER until_now AS sofar_down
        FROM per_slot WINDOW until_now AS (PARTITION BY {names} ORDER BY slot_start)
    ),
    used AS (
        SELECT {names}, max(sofar_up) AS used_up, max(sofar_down) AS used_down,
            min(slot_start) FILTER ({sofar} >= {allowance}) AS reached
        FROM so_far GROUP BY ALL
    ),
    -- Each weekday to come is like the mean of its like.
    past AS (
        SELECT {names}, weekday, sum(bytes_up)::HUGEINT AS bytes_up, sum(bytes_down)::HUGEINT AS bytes_down
        FROM chosen JOIN ({days}) USING (day) GROUP BY ALL
    ),
    ahead AS (
        SELECT {names},
            sum(bytes_up * ahead_us // (days * 86400000000)) AS ahead_up,
            sum(bytes_down * ahead_us // (days * 86400000000)) AS ahead_down
        FROM past JOIN ({weekdays}) USING (weekday) GROUP BY ALL
    ),
    per_key AS (
        SELECT {names},
            coalesce(max(used_up), 0) AS used_up,
            coalesce(max(used_down), 0) AS used_down,
            coalesce(max(ahead_up), 0) AS ahead_up,
            coalesce(max(ahead_down), 0) AS ahead_down,
            max(reached) AS reached
        FROM (
            SELECT * FROM used UNION ALL BY NAME SELECT * FROM ahead UNION ALL BY NAME {subjects}
        )
        GROUP BY ALL
    ),
    measured AS (
        SELECT {names}, ({used})::HUGEINT AS used, ({ahead})::HUGEINT AS by_weekday, reached FROM per_key
    ),
    projected AS (
        SELECT *, used * ({until} - {since})::HUGEINT // ({now} - {since}) AS linear FROM measured
    )
    SELECT {names}, {item}::VARCHAR AS item,
        make_timestamp({since}) AS period_start,
        make_timestamp({until}) AS period_end,
        used::BIGINT AS used_bytes,
        {allowance}::BIGINT AS allowance_bytes,
        round(100.0 * used / {allowance}, 2) AS used_percent,
        linear::BIGINT AS projected_bytes,
        CASE WHEN {has_weekdays} THEN by_weekday::BIGINT END AS weekday_bytes,
        round(100.0 * linear / {allowance}, 2) AS projected_percent,
        CASE
            WHEN used >= {allowance} THEN reached
            WHEN linear >= {allowance}
                THEN make_timestamp(({since} + ({now} - {since})::HUGEINT * {allowance} // used)::BIGINT)
        END AS runs_out
    FROM projected
)
