"""Speed of the gateway without a model, compared with the same server sending fixed bytes, in the same run."""
