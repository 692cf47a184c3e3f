"""Accounts with an owner and a balance that is never below zero. Keys are Django's own."""

from django.conf import settings
from django.db import models


class Account(models.Model):
    """One for each user."""

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    balance = models.PositiveBigIntegerField(default=0)


class Transfer(models.Model):
    """So much went from one account to another."""

    source = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="sent")
    target = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="received")
    amount = models.PositiveBigIntegerField()
    at = models.DateTimeField(auto_now_add=True)
