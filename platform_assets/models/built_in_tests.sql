{# The four generic tests of dbt. Null values are what not_null is about, and no other. #}
{% test unique(model, column_name) %}
select {{ column_name }} as unique_field, count(*) as n_records
from {{ model }}
where {{ column_name }} is not null
group by {{ column_name }}
having count(*) > 1
{% endtest %}

{% test not_null(model, column_name) %}
select * from {{ model }} where {{ column_name }} is null
{% endtest %}

{% test accepted_values(model, column_name, values, quote=true) %}
select {{ column_name }} as value_field, count(*) as n_records
from {{ model }}
group by {{ column_name }}
having {{ column_name }} not in (
    {%- for value in values -%}
    {%- if quote -%} '{{ value | string | replace("'", "''") }}' {%- else -%} {{ value }} {%- endif -%}
    {%- if not loop.last %}, {% endif -%}
    {%- endfor -%}
)
{% endtest %}

{% test relationships(model, column_name, to, field) %}
select child.from_field
from (select {{ column_name }} as from_field from {{ model }}) as child
left join (select {{ field }} as to_field from {{ to }}) as parent
    on child.from_field = parent.to_field
where child.from_field is not null and parent.to_field is null
{% endtest %}
