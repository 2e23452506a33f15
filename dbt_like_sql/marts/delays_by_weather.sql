-- Departure delays by wind and visibility at the origin: one row for each band of both.
-- Each flight is joined to the weather of its origin in its scheduled hour. Flights without a
-- weather record are in bands called unknown, so that the rows add up to all flights.
-- Band numbers sort from fair to foul. Wind is in miles per hour, visibility in miles.
{{ config(materialized='table', tags=['flights', 'delays', 'weather']) }}

{% set wind_bands = [(8, 'calm, under 8'), (15, 'breeze, 8 to 15'), (25, 'wind, 15 to 25')] %}
{% set wind_most = 'storm, 25 and more' %}
{% set visibility_bands = [(10, 'clear, 10'), (5, 'hazy, 5 to 10'), (1, 'poor, 1 to 5')] %}
{% set visibility_least = 'fog, under 1' %}

with weather as (

    select
        origin,
        time_hour,
        -- The station once reported 1,048 miles an hour; no airport has seen 200.
        case when wind_speed < 200 then wind_speed end as wind_speed,
        visib
    from {{ source('lakebed', 'weather') }}

),

flights_in_weather as (

    select
        flights.is_cancelled,
        flights.is_late,
        flights.dep_delay_minutes,
        case
        {%- for below, label in wind_bands %}
            when weather.wind_speed < {{ below }} then {{ loop.index }}
        {%- endfor %}
            when weather.wind_speed is not null then {{ wind_bands | length + 1 }}
        end as wind_band,
        case
        {%- for at_least, label in visibility_bands %}
            when weather.visib >= {{ at_least }} then {{ loop.index }}
        {%- endfor %}
            when weather.visib is not null then {{ visibility_bands | length + 1 }}
        end as visibility_band
    from {{ ref('stg_flights') }} as flights
    left join weather using (origin, time_hour)

)

select
    wind_band,
    case wind_band
    {%- for below, label in wind_bands %}
        when {{ loop.index }} then '{{ label }}'
    {%- endfor %}
        when {{ wind_bands | length + 1 }} then '{{ wind_most }}'
        else 'unknown'
    end as wind,
    visibility_band,
    case visibility_band
    {%- for at_least, label in visibility_bands %}
        when {{ loop.index }} then '{{ label }}'
    {%- endfor %}
        when {{ visibility_bands | length + 1 }} then '{{ visibility_least }}'
        else 'unknown'
    end as visibility,
    count(*) as flights,
    count(*) filter (where is_cancelled) as cancelled,
    {{ percent('count(*) filter (where is_cancelled)', 'count(*)') }} as cancelled_percent,
    {{ percent('count(*) filter (where is_late)', 'count(*) filter (where not is_cancelled)') }}
        as late_percent,
    round(avg(dep_delay_minutes), 1) as mean_dep_delay
from flights_in_weather
group by wind_band, visibility_band
order by wind_band, visibility_band
