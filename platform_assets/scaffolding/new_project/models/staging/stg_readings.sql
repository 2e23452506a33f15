-- Readings that have a value, with their day.
{{ config(materialized='view') }}

select sensor, measured_at, cast(measured_at as date) as day, celsius
from {{ source('lakebed', 'readings') }}
where celsius is not null
