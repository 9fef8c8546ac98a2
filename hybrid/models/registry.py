"""Architecture name -> builder. A test holds the names against those that `config.py` accepts."""

from typing import Protocol

from hybrid.models import deepseek
from hybrid.models.config import ModelConfig
from hybrid.models.deepseek import Model
from hybrid.models.parts import Parts


class Builder(Protocol):
    def __call__(
        self,
        config: ModelConfig,
        parts: Parts,
        *,
        absorb_up_to: int | None = None,
        attention_work_bytes: int = deepseek.ATTENTION_WORK_BYTES,
    ) -> Model: ...


BUILDERS: dict[str, Builder] = {"deepseek2": deepseek.build}


def builder(architecture: str) -> Builder:
    """Of an architecture that `ModelConfig.from_gguf` has accepted; it refuses unknown ones,
    listing these.
    """
    return BUILDERS[architecture]
