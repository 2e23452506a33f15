{{ config(materialized='ephemeral', tags='big') }}
-- an ephemeral model over another one
select * from {{ ref('stg_payments') }} where amount >= {{ var('big', 20) }}  -- dollars
