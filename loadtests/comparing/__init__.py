"""Two servers, policies or versions side by side: is there a difference, and how sure is that? Pure."""
