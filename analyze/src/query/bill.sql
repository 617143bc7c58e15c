-- What contracts ask for, in whole numbers: per customer, rule and service as far as they matter,
-- and per stretch of time in which no period, window or price begins or ends.
SELECT {keys}, {stretch} AS stretch, {sums}
FROM usage
WHERE {where}
GROUP BY ALL
