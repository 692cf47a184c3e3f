"""Pages that count their views, and notes on them."""

import uuid

from django.db import models


class Page(models.Model):
    """A page. Its name is its key."""

    slug = models.SlugField(primary_key=True)
    views = models.BigIntegerField(default=0)


class Note(models.Model):
    """A note on a page. Its key is chosen by whoever writes it, anywhere, without asking anybody."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    page = models.ForeignKey(Page, on_delete=models.CASCADE, related_name="notes")
    text = models.TextField()
    written_at = models.DateTimeField(auto_now_add=True)
