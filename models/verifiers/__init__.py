"""Verifiers: process reward models, their formats as data, and heads that were trained here."""
