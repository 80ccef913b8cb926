"""A question, its arms, its verdict: studies, the pool that runs them, comparisons, the report."""
