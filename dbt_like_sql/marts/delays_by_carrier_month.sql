-- Punctuality of each carrier by month: one row for each carrier and month with flights.
-- Delays are in minutes and leave out cancelled flights; an early departure is negative. Late means
-- 15 minutes or more. Percentages of late flights refer to the flights that departed.
{{ config(materialized='table', tags=['flights', 'delays']) }}

with by_carrier_month as (

    select
        flight_month,
        carrier,
        count(*) as flights,
        count(*) filter (where is_cancelled) as cancelled,
        count(*) filter (where is_late) as late,
        round(avg(dep_delay_minutes), 1) as mean_dep_delay,
        median(dep_delay_minutes) as median_dep_delay,
        round(avg(arr_delay_minutes), 1) as mean_arr_delay
    from {{ ref('stg_flights') }}
    group by flight_month, carrier

)

select
    by_carrier_month.flight_month,
    by_carrier_month.carrier,
    airlines.name as carrier_name,
    by_carrier_month.flights,
    by_carrier_month.cancelled,
    {{ percent('by_carrier_month.cancelled', 'by_carrier_month.flights') }} as cancelled_percent,
    by_carrier_month.late,
    {{ percent('by_carrier_month.late', 'by_carrier_month.flights - by_carrier_month.cancelled') }}
        as late_percent,
    by_carrier_month.mean_dep_delay,
    by_carrier_month.median_dep_delay,
    by_carrier_month.mean_arr_delay
from by_carrier_month
left join {{ source('lakebed', 'airlines') }} as airlines using (carrier)
order by flight_month, carrier
