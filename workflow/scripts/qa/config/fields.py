"""Fields of the typed configuration: what a field says of itself, and the types of values with their limits."""

import re
from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainValidator,
    StringConstraints,
    Tag,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

NAME = "^[A-Za-z0-9][A-Za-z0-9._-]*$"
LONGEST_NAME = 80  # characters
SPLIT = "^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*$"
COMMIT = "^[0-9a-f]{40}$"
HUB_NAME = "^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$"
OWNED_NAME = "^([A-Za-z0-9][A-Za-z0-9._-]*)/([A-Za-z0-9][A-Za-z0-9._-]*)$"
LICENSE = "^[a-z0-9][a-z0-9.+-]*$"
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
WITHOUT_VALUE = ("source", "twice", "idle", "method")  # kinds of mistakes whose message says all
GREATEST = 2**32  # no seed, size or number of steps is greater

Stage = Literal["nothing", "download", "prepare_questions", "hold_out_calibration", "tokenize_and_label"]
Stage |= Literal["soft_targets", "train", "predict", "calibrate", "postprocess", "score", "compare", "package"]


def setting(stage: Stage, description: str, *default: Any, unit: str = "", **limits: Any) -> Any:
    """A field. `stage` reads it first, and reruns when it changes. Without `default` the field is required."""
    extra = {"x-reruns": stage, **({"x-unit": unit} if unit else {})}
    return Field(*default, description=description, json_schema_extra=extra, **limits)


def section(kind: type["Section"]) -> Any:
    """A field that holds a section, with all its defaults where the configuration does not name it."""
    return Field(default_factory=kind, description=kind.__doc__)


def from_text(value: Any) -> Any:
    """Turn text that is a number or a truth value into that; leave anything else as it is.

    YAML reads `2e-5` as text, and `snakemake --config` reads everything within braces as text.
    """
    if value in ("true", "True", "TRUE", "false", "False", "FALSE"):  # as in YAML
        return value.lower() == "true"
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        return value
    number = float(value)
    if abs(number) > GREATEST:
        return value
    return number if re.search("[.eE]", value) else int(value)


def _whole(value: Any) -> Any:
    value = from_text(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: Any, check: Any) -> int | float:
    value = _whole(value)  # 3 and 3.0 are one setting, but Snakemake compares params as text
    check(value)
    return value


def _threshold(value: Any) -> Any:
    value = from_text(value)
    if value == "calibrated" or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise PydanticCustomError("threshold", "write a number, or `calibrated`")


def _single(value: Any) -> Any:
    if isinstance(value, list | dict):
        raise PydanticCustomError("single", "write one number, text or truth value")
    return from_text(value)


def _once(values: list[Any]) -> list[Any]:
    if twice := [value for number, value in enumerate(values) if value in values[:number]]:
        raise PydanticCustomError("twice", "{value} is listed twice", {"value": str(twice[0])})
    return values


def listed(value: Any) -> Any:
    """One text as a list of it; a list as it is."""
    return [value] if isinstance(value, str) else value


Whole = Annotated[int, BeforeValidator(_whole), Field(strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False), WrapValidator(_number)]
Flag = Annotated[bool, BeforeValidator(from_text), Field(strict=True)]
Text = Annotated[str, StringConstraints(strict=True, min_length=1)]
Name = Annotated[str, StringConstraints(strict=True, pattern=NAME, max_length=LONGEST_NAME)]
Split = Annotated[str, StringConstraints(strict=True, pattern=SPLIT)]
Commit = Annotated[str, StringConstraints(strict=True, pattern=COMMIT)]
HubName = Annotated[str, StringConstraints(strict=True, pattern=HUB_NAME)]
OwnedName = Annotated[str, StringConstraints(strict=True, pattern=OWNED_NAME)]
License = Annotated[str, StringConstraints(strict=True, pattern=LICENSE)]
Threshold = Annotated[
    int | float | str, PlainValidator(_threshold, json_schema_input_type=float | Literal["calibrated"])
]
Unique = AfterValidator(_once), Field(json_schema_extra={"uniqueItems": True})
Some = *Unique, Field(min_length=1)
Splits = Annotated[list[Split], *Some]
Files = Annotated[
    Annotated[Text, Tag("(file)")] | Annotated[list[Text], Field(min_length=1), Tag("(files)")],
    Discriminator(lambda value: "(files)" if isinstance(value, list) else "(file)"),
]
Single = Annotated[Any, PlainValidator(_single, json_schema_input_type=float | str | bool | None)]


class Section(BaseModel):
    """A closed part of the configuration: an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _prepared(cls, values: Any) -> Any:
        """Give unknown keys the known ones, for their message, and read the text `null` of `snakemake --config`."""
        if not isinstance(values, dict):
            return values
        nullable = _nullable(cls)
        read = {key: None if value == "null" and nullable.get(key) else value for key, value in values.items()}
        return read | {key: tuple(nullable) for key in values.keys() - nullable.keys()}


@cache
def _nullable(section: type[Section]) -> dict[str, bool]:
    """Whether each field of a section may be null."""
    return {name: type(None) in get_args(field.annotation) for name, field in section.model_fields.items()}
