-- One row a sensor and day, over both tiers.
{{ config(materialized='table') }}

select
    sensor,
    day,
    count(*) as readings,
    round(avg(celsius), 2) as mean_celsius
from {{ ref('stg_readings') }}
group by sensor, day
order by sensor, day
