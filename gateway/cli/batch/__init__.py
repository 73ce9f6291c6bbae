"""`penstock batch`: have a file of requests answered by a server, and fetch the results."""
