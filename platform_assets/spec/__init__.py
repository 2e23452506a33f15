"""What a table file may say: tables, sources, policies, types, partitions, names. Does no I/O."""
