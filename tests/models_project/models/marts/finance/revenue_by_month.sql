{#- whitespace control, return() in a macro, a macro that calls a macro, target and builtins -#}
{%- set months = month_starts(2018, 3) -%}
{{ log("building " ~ this.identifier, info=false) }}
select
    month.start as month,
    count(distinct big.order_id) as big_orders,
    coalesce(sum(big.amount), 0) as revenue,
    '{{ env_var("SHOP_CURRENCY", "EUR") }}' as currency,
    {{ 'true' if target.type == 'duckdb' else 'false' }} as on_duckdb
from (
    {% for month in months -%}
    select date '{{ month }}' as start{% if not loop.last %} union all{% endif %}
    {% endfor -%}
) as month
left join {{ ref('orders') }} as orders on date_trunc('month', orders.order_date) = month.start
left join {{ ref('base_big_payments') }} as big using (order_id)
group by month.start
order by month.start
