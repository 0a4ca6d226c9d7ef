"""Attacks on a running service, from this machine only: python -m tests.service.attacks"""
