ranked AS MATERIALIZED (
    SELECT {names}, sum({measure}) OVER () AS whole
    FROM (
        SELECT {names}, {sum} AS {measure}
        FROM (SELECT {plain_keys}{time_keys}{summed} FROM usage WHERE {where} AND {now} {grouped})
        GROUP BY ALL
    )
    ORDER BY {measure} DESC, {names}
    LIMIT {rows}
),
