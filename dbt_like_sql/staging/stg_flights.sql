-- One row for each scheduled flight of the whole history, with its raw columns interpreted.
-- All three origins are New York's airports, so the flight's date is the date in New York.
{{ config(materialized='view', tags=['flights']) }}

with flights as (

    select
        *,
        time_hour at time zone 'America/New_York' as scheduled_hour
    from {{ source('lakebed', 'flights') }}

)

select
    time_hour,
    scheduled_hour,
    cast(scheduled_hour as date) as flight_date,
    cast(date_trunc('month', scheduled_hour) as date) as flight_month,
    carrier,
    flight as flight_number,
    tailnum,
    origin,
    dest,
    dep_delay as dep_delay_minutes,
    arr_delay as arr_delay_minutes,
    air_time as air_time_minutes,
    distance as distance_miles,
    dep_delay is null as is_cancelled,
    -- It departed, and its arrival delay is unknown: most of these flights landed elsewhere.
    dep_delay is not null and arr_delay is null as is_diverted,
    -- Null for a cancelled flight, which was neither late nor on time.
    dep_delay >= {{ var('late_after_minutes', 15) }} as is_late
from flights
