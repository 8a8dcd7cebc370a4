"""Django's sessions, logins and messages."""

from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path


def index(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    user = request.user.get_username() or None
    return JsonResponse({"user": user, "visits": request.session["visits"]})


def log_in(request: HttpRequest) -> HttpResponse:
    user = User.objects.get(username="ann")
    login(request, user)
    request.session.set_expiry(14 * 86_400)
    messages.success(request, "Welcome.")
    return HttpResponse("Hello")


def said(request: HttpRequest) -> HttpResponse:
    return JsonResponse([str(message) for message in messages.get_messages(request)], safe=False)


def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("Goodbye")


urlpatterns = [path("", index), path("login", log_in), path("messages", said), path("logout", log_out)]
