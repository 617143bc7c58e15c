-- The percentile of each key's slots. `slot` counts slots of {slot_us} us since the beginning; what
-- passed in one is summed first. Slots without a row are zeros: a figure is the {place}-th largest of
-- the rows, else zero. A slot of which not all is known counts as {up} and {down} say.
WITH per_slot AS MATERIALIZED (
    SELECT {keys}, (epoch_us(slot_start) - {since}) // {slot_us} AS slot,
        sum(bytes_up)::BIGINT AS bytes_up, sum(bytes_down)::BIGINT AS bytes_down
    FROM usage
    WHERE {where}
    GROUP BY ALL
),
gaps AS (SELECT unnest(range(first, behind)) AS slot FROM (VALUES {gaps}) AS g(first, behind)),
counted AS MATERIALIZED (
    SELECT {names}, slot, {up} AS up, {down} AS down
    FROM per_slot {gap_join}
),
figures AS (
    SELECT {names},
        coalesce(max(up, {place})[{place}], 0) AS figure_up,
        coalesce(max(down, {place})[{place}], 0) AS figure_down,
        coalesce(max({both}, {place})[{place}], 0) AS figure_both
    FROM counted
    GROUP BY ALL
),
decided AS (
    SELECT *, {figure} AS figure FROM figures
),
judged AS (
    SELECT {key_names},
        any_value(figure) AS figure, any_value(figure_up) AS figure_up, any_value(figure_down) AS figure_down,
        min(slot) FILTER ({hit}) AS deciding,
        coalesce(max({value}), 0) AS largest,
        coalesce(sum({value}), 0) AS total,
        {above} AS above
    FROM decided JOIN counted ON {same_key}
    GROUP BY ALL
)
SELECT {names},
    {rated_figure} AS percentile_bps,
    {rated_up} AS percentile_up_bps,
    {rated_down} AS percentile_down_bps,
    CASE WHEN figure > 0 THEN make_timestamp({since} + deciding * {slot_us}) END AS deciding_slot,
    {rated_largest} AS max_bps,
    (total * 8 // nullif({ranked} * {slot_s}, 0))::BIGINT AS mean_bps,
    {commit}::BIGINT AS commit_bps,
    greatest(percentile_bps - {commit}::BIGINT, 0) AS overage_bps,
    CASE WHEN {commit}::BIGINT IS NULL THEN percentile_bps ELSE greatest(percentile_bps, {commit}::BIGINT) END AS billable_bps,
    CASE WHEN {commit}::BIGINT IS NOT NULL THEN above END::BIGINT AS slots_above,
    CASE WHEN {commit}::BIGINT IS NOT NULL THEN greatest({allowed} - above, 0) END::BIGINT AS slots_left,
    {expected}::BIGINT AS slots_expected,
    {measured}::BIGINT AS slots_measured,
    {coverage} AS measured_percent,
    {estimated} AS estimated,
    '{mode}' AS mode,
    '{rank}' AS rank
FROM judged
