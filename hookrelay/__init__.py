"""hookrelay: the webhook sender that runs beside your app."""

__version__ = "0.1.0"
