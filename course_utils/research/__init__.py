"""A question, its arms, its verdict: studies, the pool that runs them, records, comparisons, tables, the report."""
