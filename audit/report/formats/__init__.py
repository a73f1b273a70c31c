"""A finished run for programs: JSON, Markdown, JUnit, SARIF and Prometheus, of one view model."""
