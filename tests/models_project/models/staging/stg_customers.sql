with source as (

    {#-
    Normally a table; a seed here.
    #}
    select * from {{ ref('raw_customers') }}

),

renamed as (

    select
        id as customer_id,
        first_name,
        last_name,
        joined
    from source

)

select * from renamed
