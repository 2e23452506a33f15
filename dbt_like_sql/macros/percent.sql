{# The part as a percentage of the whole, with one decimal; null if the whole is 0. #}
{% macro percent(part, whole) -%}
    round(100.0 * ({{ part }}) / nullif({{ whole }}, 0), 1)
{%- endmacro %}
