"""What a policy learns from answers: experiments and their guards, shadows, and controllers of money and shares."""
