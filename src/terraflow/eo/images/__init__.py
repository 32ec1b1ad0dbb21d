"""From catalogues and files to a collection in the store: the step ingest."""
