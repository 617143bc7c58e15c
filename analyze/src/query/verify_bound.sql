-- Sessions cut off by a crash: the truth lies between what was delivered for sure and what was read.
SELECT
    count(*) AS sessions,
    coalesce(sum(received_up - bytes_up), 0)::BIGINT AS up,
    coalesce(sum(received_down - bytes_down), 0)::BIGINT AS down
FROM sessions
WHERE end_reason = 'lost'
