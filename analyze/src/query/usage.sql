-- Usage per key.
SELECT {labels}, sessions, bytes_up, bytes_down, datagrams_up, datagrams_down, quality, bytes_total,
    active_us, peak_bps{further}
FROM per_key
