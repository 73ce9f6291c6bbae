"""What is kept of decisions and of traffic, to explain and to replay them."""
