"""Where things are."""

from django.urls import path
from notes import views

urlpatterns = [
    path("", views.index),
    path("pages/<slug:slug>", views.page),
    path("pages/<slug:slug>/views", views.count),
    path("pages/<slug:slug>/notes", views.write),
]
