"""The ledger of a race: its jobs and finished runs, in one database that survives a kill."""
