"""What becomes of results: verdicts, the ledger of the book, a cache, a registry."""
