"""The members of the zoo: a file a family, a decorator a model (`mdnet.models.registry`)."""
