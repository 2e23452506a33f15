-- Departures of each airport by day in New York's time: one row for each day and origin.
-- Seats count the planes that flew, without cancelled flights. Some tail numbers are missing from
-- the register of planes; flights_without_seats is the number of these departures.
{{ config(materialized='table', tags=['flights', 'traffic']) }}

with by_day as (

    select
        flights.flight_date,
        flights.origin,
        count(*) as flights,
        count(*) filter (where flights.is_cancelled) as cancelled,
        count(*) filter (where not flights.is_cancelled) as departures,
        count(distinct flights.dest) as destinations,
        cast(
            coalesce(sum(planes.seats) filter (where not flights.is_cancelled), 0) as bigint
        ) as seats_offered,
        count(*) filter (
            where not flights.is_cancelled and planes.seats is null
        ) as flights_without_seats
    from {{ ref('stg_flights') }} as flights
    left join {{ source('lakebed', 'planes') }} as planes using (tailnum)
    group by flights.flight_date, flights.origin

)

select
    by_day.flight_date,
    by_day.origin,
    airports.name as origin_name,
    by_day.flights,
    by_day.cancelled,
    by_day.departures,
    by_day.destinations,
    by_day.seats_offered,
    by_day.flights_without_seats
from by_day
left join {{ source('lakebed', 'airports') }} as airports on by_day.origin = airports.faa
order by by_day.flight_date, by_day.origin
