"""The kinds of tools that come with Hearth, one module each."""
