{{ config(materialized='view', pre_hook=["set variable shop_hook = 1"]) }}
{% if is_incremental() %}
select * from {{ this }}
{% else %}
select payment_id, rate, note, {{ safe_ratio('rate', 2) }} as half
from {{ ref('stg_payments') }}
{% endif %}
