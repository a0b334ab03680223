"""What a model was asked for and what it cost, in calls and tokens."""

from pydantic import Field

from belay_api.resource import Part


class Usage(Part):
    """Sums; tokens as the provider counts them."""

    calls: int = Field(default=0, ge=0, description="Answers of the model.")
    input_tokens: int = Field(default=0, ge=0, description="Tokens read, those from a cache not included.")
    output_tokens: int = Field(default=0, ge=0, description="Tokens written.")
    cache_read_tokens: int = Field(default=0, ge=0, description="Tokens read from the provider's cache.")
    cache_write_tokens: int = Field(default=0, ge=0, description="Tokens written to the provider's cache.")

    def __add__(self, other: "Usage") -> "Usage":
        """Both together."""
        fields = type(self).model_fields
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in fields})
