"""How fast the gateway is without a model: beside the same server sending fixed bytes, in the same run."""
