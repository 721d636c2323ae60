"""Campaigns: studies of hours as files, and the small tables that are left of them."""
