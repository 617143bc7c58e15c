-- The keys that move most, with their share of all and their rates.
SELECT {labels}, sessions, bytes_up, bytes_down,
    round(100.0 * {measure} / nullif({whole}, 0), 2) AS share_percent,
    peak_bps, first_slot, last_slot, bytes_total,
    round(100.0 * (sum({measure}) OVER so_far)::DOUBLE / nullif({whole}, 0), 2)
        AS cumulative_percent,
    (bytes_total::HUGEINT * 8000000 // (epoch_us(last_end) - epoch_us(first_slot)))::BIGINT
        AS mean_bps{further}
FROM per_key
WINDOW so_far AS (ORDER BY {measure} DESC, {names} ROWS UNBOUNDED PRECEDING)
