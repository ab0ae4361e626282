"""The examples run as they are, before a scripted model that is as strict as OpenAI."""

from tests.integration.service.conftest import model, model_server, talk

__all__ = ["model", "model_server", "talk"]
