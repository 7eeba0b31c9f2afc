"""What is written down: Arrow tables, identifiers, DuckDB views, COCO and SA-1B shapes. No torch."""
