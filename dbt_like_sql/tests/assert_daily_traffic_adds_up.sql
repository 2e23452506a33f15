-- A day with different numbers of flights in daily_traffic and stg_flights: a join has lost or
-- doubled some.
with counted as (

    select flight_date, count(*) as flights
    from {{ ref('stg_flights') }}
    group by flight_date

),

summed as (

    select flight_date, sum(flights) as flights
    from {{ ref('daily_traffic') }}
    group by flight_date

)

select
    flight_date,
    counted.flights as flights_counted,
    summed.flights as flights_summed
from counted
full join summed using (flight_date)
where counted.flights is distinct from summed.flights
