with source as (select * from {{ ref('shop', 'raw_orders') }}),

renamed as (
    select
        id as order_id,
        user_id as customer_id,
        order_date,
        status,
        placed_at,
        is_gift
    from source
)

select * from renamed
where extract(year from order_date) >= {{ var('first_year') }}
