"""The tour: a sample outage, an SMTP sink on loopback, a drain, and the reconciliation at the sink."""
