"""Django is set up once in a process."""

import django
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connections

__all__ = ["django_is_set_up"]


@pytest.fixture(scope="session")
def django_is_set_up(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With its sessions, logins and messages, and one user, "ann"."""
    apps = ["auth", "contenttypes", "sessions", "messages"]
    settings.configure(
        ALLOWED_HOSTS=["*"],
        DATABASES={
            "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": tmp_path_factory.mktemp("django") / "shop.db"}
        },
        INSTALLED_APPS=[f"django.contrib.{app}" for app in apps],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.messages.middleware.MessageMiddleware",
        ],
        MIGRATION_MODULES=dict.fromkeys(apps),  # tables as the models have them: the history takes a second
        SECRET_KEY="of these tests",
        SESSION_COOKIE_SECURE=True,
    )
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)

    from django.contrib.auth.models import User  # noqa: PLC0415 -- models come after the settings

    User.objects.create(username="ann")
    connections.close_all()
