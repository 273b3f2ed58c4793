"""The sections of the configuration file, one a file: keys, defaults and the checks within a section."""
