-- An order of nobody.
{{ config(severity='warn') }}
select orders.order_id
from {{ ref('orders') }} as orders
anti join {{ ref('customers') }} as customers using (customer_id)
