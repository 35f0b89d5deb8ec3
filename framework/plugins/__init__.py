"""The plugin interface. The core never imports a plugin: plugins are found by entry point."""
