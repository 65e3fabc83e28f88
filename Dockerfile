FROM python:3.11-slim AS build
RUN python -m venv /venv
COPY requirements.txt /tmp/
RUN /venv/bin/pip install --no-cache-dir --require-hashes -r /tmp/requirements.txt

FROM python:3.11-slim
RUN useradd --system --uid 1001 --create-home switchboard \
    && mkdir -p /app/data /app/staticfiles \
    && chown -R switchboard /app
COPY --from=build /venv /venv
WORKDIR /app
COPY --chown=switchboard manage.py requirements.txt ./
COPY --chown=switchboard gateway gateway
COPY --chown=switchboard usage usage
COPY --chown=switchboard apikeys apikeys
COPY --chown=switchboard profiles profiles
COPY --chown=switchboard providers providers
COPY --chown=switchboard templates templates
USER switchboard
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 HOST=0.0.0.0
VOLUME /app/data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
    CMD python -c "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=2)"
# SECRET_KEY, SECRETS_KEY and JWT_SECRET_KEY come from the environment.
CMD ["sh", "-c", "python manage.py bootstrap && exec python -m gunicorn -c gateway/gunicorn.py"]
