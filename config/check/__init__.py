"""Whether the parts of a policy fit together: one concept a file, all of them asked by `config.check.whole`."""
