"""How a person or a CI job talks to the auditor."""
