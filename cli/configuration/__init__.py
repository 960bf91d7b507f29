"""What a project has decided, gathered from options, the environment and files: jaynes.toml and pyproject.toml."""
