"""What holds for every test: a property is not judged by the clock of a machine that others use too."""

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")
