"""What a server runs. The middleware is all there is of Litecast in this project."""

import os

from django.core.wsgi import get_wsgi_application

from litecast import PrimaryWsgi

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django = get_wsgi_application()
# Without Litecast, `manage.py runserver` for instance, there is no DATABASE_PATH, and nothing to forward.
application = PrimaryWsgi(django) if "DATABASE_PATH" in os.environ else django
