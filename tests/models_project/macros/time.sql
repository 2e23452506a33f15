{% macro guarded(expression) %}({{ expression }}){% endmacro %}

{% macro month_starts(year, count) %}
    {% set found = [] %}
    {% for month in range(1, count + 1) %}
        {% do found.append("%04d-%02d-01" | format(year, month)) %}
    {% endfor %}
    {{ return(found) }}
{% endmacro %}

{% test not_negative(model, column_name) %}
select {{ column_name }} from {{ model }} where {{ column_name }} < 0
{% endtest %}
