"""Campaigns: studies that take hours, described in files, and the small tables of their results."""
