{% macro cents_to_dollars(column_name, precision=2) -%}
    round(1.0 * {{ column_name }} / {{ var('cents') }}, {{ precision }})
{%- endmacro %}

{% macro safe_ratio(part, whole) %}{{ shop.guarded(part) }} / nullif({{ whole }}, 0){% endmacro %}
