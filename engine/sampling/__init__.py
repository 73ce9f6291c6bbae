"""What a request wants of sampling: parameters, bad words, grammars. Pure."""
