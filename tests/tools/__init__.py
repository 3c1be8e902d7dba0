"""Programs that only `make check` and `make test` use, each with pins of its own: never in what is shipped."""
