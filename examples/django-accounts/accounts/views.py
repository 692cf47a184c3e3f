"""What a browser or `curl` can ask for."""

from collections.abc import Callable

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import F
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from accounts.models import Account, Transfer

type View = Callable[[HttpRequest, str], JsonResponse]


def conflicts(view: View) -> View:
    """In one transaction; 409 for a name that is taken, or a balance that would fall below zero."""

    def answered(request: HttpRequest, name: str) -> JsonResponse:
        try:
            with transaction.atomic():
                return view(request, name)
        except IntegrityError as error:
            return JsonResponse({"error": str(error)}, status=409)

    return answered


def index(request: HttpRequest) -> JsonResponse:
    """All accounts, by name."""
    return JsonResponse(dict(Account.objects.order_by("owner__username").values_list("owner__username", "balance")))


def account(request: HttpRequest, name: str) -> JsonResponse:
    """One account; with POST a new one, and its user."""
    if request.method == "POST":
        return create(request, name)
    found = get_object_or_404(Account, owner__username=name)
    return JsonResponse({"id": found.pk, "name": name, "balance": found.balance})


@conflicts
def create(request: HttpRequest, name: str) -> JsonResponse:
    """A new user, with an account that has so much in it."""
    user = User.objects.create_user(name)
    made = Account.objects.create(owner=user, balance=int(request.POST["balance"]))
    return JsonResponse({"id": made.pk, "name": name}, status=201)


@require_POST
@conflicts
def transfer(request: HttpRequest, name: str) -> JsonResponse:
    """So much goes from this account to another, or nothing at all."""
    amount = int(request.POST["amount"])
    source = get_object_or_404(Account, owner__username=name)
    target = get_object_or_404(Account, owner__username=request.POST["to"])
    Account.objects.filter(pk=source.pk).update(balance=F("balance") - amount)
    Account.objects.filter(pk=target.pk).update(balance=F("balance") + amount)
    made = Transfer.objects.create(source=source, target=target, amount=amount)
    request.session["sent"] = request.session.get("sent", 0) + amount
    return JsonResponse({"id": made.pk, "sent_by_you": request.session["sent"]}, status=201)
