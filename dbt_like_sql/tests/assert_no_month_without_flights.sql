-- A month without flights between the first and the last month of delays_by_carrier_month:
-- a part of the history is missing.
with bounds as (

    select
        min(flight_month) as first_month,
        max(flight_month) as last_month
    from {{ ref('delays_by_carrier_month') }}

),

months as (

    select cast(
        unnest(generate_series(first_month, last_month, interval 1 month)) as date
    ) as flight_month
    from bounds

)

select months.flight_month
from months
anti join {{ ref('delays_by_carrier_month') }} using (flight_month)
