"""Problems of a configuration, with their positions in the file."""
