"""Text to shards (``prepare``), and shards to batches (``stream``). The only importer of webdataset."""
