"""Where things are."""

from accounts import views
from django.urls import path

urlpatterns = [
    path("", views.index),
    path("accounts/<slug:name>", views.account),
    path("accounts/<slug:name>/transfers", views.transfer),
]
