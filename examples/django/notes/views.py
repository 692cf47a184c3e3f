"""What a browser or `curl` can ask for."""

from django.db import transaction
from django.db.models import F
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.utils.html import format_html, format_html_join
from django.views.decorators.http import require_POST

from notes.models import Note, Page


def index(request: HttpRequest) -> HttpResponse:
    """All pages."""
    rows = format_html_join("", "<li>{}: {} views</li>", Page.objects.order_by("slug").values_list("slug", "views"))
    return HttpResponse(format_html("<h1>Pages</h1><ul>{}</ul>", rows))


def page(request: HttpRequest, slug: str) -> JsonResponse:
    """A page's views and notes, and how many notes this session wrote."""
    found = get_object_or_404(Page, slug=slug)
    notes = [{"id": str(note.id), "text": note.text} for note in found.notes.order_by("written_at")]
    return JsonResponse(
        {"page": slug, "views": found.views, "notes": notes, "written_by_you": request.session.get("written", 0)}
    )


@require_POST
@transaction.atomic
def count(request: HttpRequest, slug: str) -> JsonResponse:
    """One more view."""
    Page.objects.get_or_create(slug=slug)
    Page.objects.filter(slug=slug).update(views=F("views") + 1)
    return JsonResponse({"page": slug, "views": Page.objects.get(slug=slug).views})


@require_POST
@transaction.atomic
def write(request: HttpRequest, slug: str) -> JsonResponse:
    """A new note, whose text is the request's body."""
    found, _ = Page.objects.get_or_create(slug=slug)
    note = Note.objects.create(page=found, text=request.body.decode())
    request.session["written"] = request.session.get("written", 0) + 1
    return JsonResponse({"id": str(note.id)}, status=201)
