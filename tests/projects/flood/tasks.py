from terraflow.tasks import namespace  # noqa: F401
