"""temporary"""
from contextlib import contextmanager


@contextmanager
def weights_present(adapter):
    yield
