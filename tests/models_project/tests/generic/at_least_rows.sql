{% test at_least_rows(model, number=1) %}
{{ config(severity='error') }}
select count(*) as found from {{ model }} having count(*) < {{ number }}
{% endtest %}

{% test not_empty(model, column_name) %}
select * from {{ model }} where {{ column_name }} = '' or {{ column_name }} is null
{% endtest %}
