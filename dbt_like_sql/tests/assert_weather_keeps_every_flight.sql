-- delays_by_weather and stg_flights have different numbers of flights: an hour has two weather
-- records, or flights without a record were dropped.
with counted as (

    select count(*) as flights
    from {{ ref('stg_flights') }}

),

summed as (

    select coalesce(sum(flights), 0) as flights
    from {{ ref('delays_by_weather') }}

)

select
    counted.flights as flights_counted,
    summed.flights as flights_summed
from counted
cross join summed
where counted.flights <> summed.flights
