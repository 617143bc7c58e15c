-- Usage per key. A session counts once per key, however many slots it spans; one that has a single
-- row, as nearly all have, need not be held against others.
WITH per_session AS (
    SELECT {keys},
        CASE WHEN is_first AND is_final THEN NULL ELSE boot END AS boot,
        CASE WHEN is_first AND is_final THEN NULL ELSE session_no END AS session_no,
        count(*) AS single,
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
        sum(CASE WHEN session_no IS NULL THEN single ELSE 1 END)::BIGINT AS sessions,
        sum(bytes_up)::BIGINT AS bytes_up,
        sum(bytes_down)::BIGINT AS bytes_down,
        sum(datagrams_up)::BIGINT AS datagrams_up,
        sum(datagrams_down)::BIGINT AS datagrams_down,
        max(quality) AS quality
    FROM per_session
    GROUP BY ALL
)
SELECT * FROM per_key
