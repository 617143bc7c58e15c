-- Usage per key. A session counts once per key, however many slots it spans.
WITH per_session AS (
    SELECT {keys}, boot, session_no,
        sum(bytes_up) AS bytes_up,
        sum(bytes_down) AS bytes_down,
        sum(datagrams_up) AS datagrams_up,
        sum(datagrams_down) AS datagrams_down,
        max(quality) AS quality
    FROM usage
    WHERE {where}
    GROUP BY ALL
),
per_key AS (
    SELECT {names},
        count(*) AS sessions,
        sum(bytes_up)::BIGINT AS bytes_up,
        sum(bytes_down)::BIGINT AS bytes_down,
        sum(datagrams_up)::BIGINT AS datagrams_up,
        sum(datagrams_down)::BIGINT AS datagrams_down,
        max(quality) AS quality
    FROM per_session
    GROUP BY ALL
)
SELECT * FROM per_key
