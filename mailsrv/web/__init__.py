"""What is to be seen over HTTP: the metrics of a running server."""
