"""Feedback from finished answers: experiments with guards, shadows, and controllers of budgets and target shares."""
