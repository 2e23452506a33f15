{{ config(enabled=var('all_models', false)) }}
select * from nowhere_at_all
