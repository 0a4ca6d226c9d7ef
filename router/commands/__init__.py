"""The commands of `router`, one module each; `cli` loads a module when its command is called."""
